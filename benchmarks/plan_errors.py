"""How far the plan of a run's memory is off: planned against measured peaks, one process each.

    python benchmarks/plan_errors.py [--quick] [--smollm2 FOLDER] [--recipe PATH [KEY=VALUE ...]]

Trains the quickstart's model and, where a SmolLM2-135M checkpoint is given, that one for a few steps, each at two
lengths of the packed row, and reads the peak of the process that learns and samples (`memory/peak_gb`). `--recipe`
measures another recipe instead; have its rows full, because a plan is for the fullest moment. `--quick`: one length.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from report import Row, at_most, print_report
from runs import RECIPES, train

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grpo.memory import GB, needs_of  # noqa: E402
from grpo.model_shape import read_shape  # noqa: E402
from grpo.parallel_sizes import learner_sizes  # noqa: E402
from grpo.recipe import load_recipe  # noqa: E402

ALLOWED_ERROR = 0.10
UNMEASURED = ("evaluation.num_samples=1", "data.num_held_out=8")  # evaluation is not what is measured here
SMOLLM2 = ("max_steps=3", "rollout.max_completion_length=48", "rollout.problems_per_step=16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smollm2", type=Path, help="folder of a SmolLM2-135M checkpoint")
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (recipe, overrides) in enumerate(_runs(args)):
            rows += error_rows(recipe, overrides, Path(scratch) / str(number))
    print_report("plan_errors", rows)


def _runs(args: argparse.Namespace) -> Iterator[tuple[Path, Sequence[str]]]:
    if args.recipe is not None:
        yield args.recipe, args.overrides
        return
    for row_tokens in (1024,) if args.quick else (1024, 2048):
        steps = f"max_steps={4 if args.quick else 8}"
        yield RECIPES / "quickstart.yaml", [*UNMEASURED, steps, f"learner.row_tokens={row_tokens}"]
    if args.smollm2 is not None:
        for row_tokens in (512,) if args.quick else (512, 1024):
            model = [f"model={args.smollm2}", f"learner.row_tokens={row_tokens}"]
            yield RECIPES / "smollm2_arithmetic.yaml", [*UNMEASURED, *SMOLLM2, *model]


def error_rows(path: Path, overrides: Sequence[str], folder: Path) -> list[Row]:
    """Planned, measured and the difference, of the process that writes the metrics."""
    recipe = load_recipe(path, overrides)
    shape = read_shape(recipe.model)
    assert shape is not None, "a recipe that trains here names a model that is here"
    leader = needs_of(recipe, shape).places[0]
    run = train(str(path), folder, overrides)
    measured = max(step["memory/peak_gb"] for step in run.steps()) * 2**30 / GB
    planned = leader.account.total / GB
    sizes = [f"{name}={size}" for name, size in learner_sizes(recipe).items()]
    label = " ".join([path.stem, f"row_tokens={recipe.learner.row_tokens}", *sizes])
    return [
        Row(f"{label}: planned", planned, "GB"),
        Row(f"{label}: measured", measured, "GB"),
        at_most(f"{label}: error", abs(planned / measured - 1), "of the measured", ALLOWED_ERROR),
    ]


if __name__ == "__main__":
    main()
