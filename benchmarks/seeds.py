"""Does a recipe learn, whatever the seed?

    python benchmarks/seeds.py [RECIPE] [--seeds 0 1 2 3 4] [--folder RUNS] [--quick]

Each seed of ``recipes/RECIPE.yaml`` (the CPU-size Countdown, unless told otherwise) is a process of its own: held-out
pass@1 before and after with 95% intervals, which must lie apart. ``--control``: then the first seed once more with
random rewards, which must not improve. ``--folder``: keep the runs there; a seed that has finished there is read, not
run again.
``--quick``: one seed, four steps, smaller evaluations; no goal is judged.
"""

import argparse
import json
import tempfile
from pathlib import Path

from report import Row, at_most, print_report
from runs import RECIPES, Run, train

from grpo.recipe import load_recipe

RECIPE = "tinyzero_countdown_tiny"
QUICK = ("max_steps=4", "evaluation.num_samples=4", "data.num_held_out=16")
MAX_CONTROL_GAIN = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=RECIPE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    overrides = QUICK if args.quick else ()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        for seed in args.seeds[:1] if args.quick else args.seeds:
            run = run_once(args.recipe, folder / f"seed-{seed}", [*overrides, f"seed={seed}"])
            rows += seed_rows(f"seed {seed}", run, judged=not args.quick)
        if args.control:
            control = [*overrides, f"seed={args.seeds[0]}", random_rewards(args.recipe)]
            rows += control_rows(run_once(args.recipe, folder / "control", control), judged=not args.quick)
    print_report(f"seeds of {args.recipe}", rows)


def run_once(recipe: str, folder: Path, overrides: list[str]) -> Run:
    """The run of that folder, as far as it has finished; else a new one, whose seconds are noted beside it."""
    noted = folder.with_suffix(".seconds")
    if noted.exists():
        return Run(folder, float(noted.read_text(encoding="utf-8")))
    run = train(recipe, folder, overrides)
    noted.write_text(str(run.seconds), encoding="utf-8")
    return run


def random_rewards(recipe: str) -> str:
    """The recipe's own judge still says what is correct, and counts for nothing."""
    judge = load_recipe(RECIPES / f"{recipe}.yaml").rewards[0]
    rewards = [{"name": judge.name, "weight": 0, "args": dict(judge.args)}, {"name": "random"}]
    return f"rewards={json.dumps(rewards)}"


def seed_rows(name: str, run: Run, *, judged: bool) -> list[Row]:
    first, last = run.evaluations()[0], run.evaluations()[-1]
    before, after = first["intervals"]["pass@1"], last["intervals"]["pass@1"]
    goal = ("intervals apart", after[0] > before[1]) if judged else ("", None)
    rows = [
        Row(
            f"{name}: pass@1 {moment}{bound}",
            value,
            "share",
            *(goal if (moment, bound) == ("after", "") else ("", None)),
        )
        for moment, evaluation, interval in (("before", first, before), ("after", last, after))
        for bound, value in (("", evaluation["values"]["pass@1"]), (", low", interval[0]), (", high", interval[1]))
    ]
    for moment, evaluation in (("before", first), ("after", last)):
        rows.append(Row(f"{name}: mean length {moment}", evaluation["values"]["mean_length"], "tokens"))
    return [*rows, Row(f"{name}: whole run", run.seconds, "s")]


def control_rows(run: Run, *, judged: bool) -> list[Row]:
    gain = run.after["pass@1"] - run.before["pass@1"]
    name = "random rewards: gain of pass@1"
    verdict = at_most(name, gain, "share", MAX_CONTROL_GAIN) if judged else Row(name, gain, "share")
    return [*seed_rows("random rewards", run, judged=False), verdict]


if __name__ == "__main__":
    main()
