"""What sharding the learner saves and costs: 1, 2 and 4 shards, with an engine in a process of its own.

    python benchmarks/shards.py [--quick] [--smollm2 FOLDER]

For the quickstart's model and, where a checkpoint is given, SmolLM2-135M: the first learner process' peak memory, how
far the plan of it is off, how fast weights are published, and which share of a step the learner and the engine wait
for each other. On a machine with fewer cores than processes the times say nothing about speed. ``--quick``: 1 and 2
shards.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from plan_errors import ALLOWED_ERROR, SMOLLM2, UNMEASURED
from report import Row, at_most, print_report
from runs import RECIPES, train

from grpo.memory import GB, needs_of
from grpo.model_shape import read_shape
from grpo.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smollm2", type=Path, help="folder of a SmolLM2-135M checkpoint")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for shards in (1, 2) if args.quick else (1, 2, 4):
            sizes = [*UNMEASURED, f"parallel.shard={shards}", "rollout.num_engines=1"]
            full_rows = f"rollout.problems_per_step={16 * shards}"  # with fewer samples, shares get shorter rows
            tiny = [*sizes, "max_steps=6", full_rows]
            rows += shard_rows("tiny", "quickstart", tiny, shards, Path(scratch) / f"tiny-{shards}")
            if args.smollm2:
                real = [*sizes, *SMOLLM2, "learner.row_tokens=512", f"model={args.smollm2}"]
                rows += shard_rows("SmolLM2", "smollm2_arithmetic", real, shards, Path(scratch) / f"real-{shards}")
    print_report("shards", rows)


def shard_rows(label: str, name: str, overrides: Sequence[str], shards: int, folder: Path) -> list[Row]:
    recipe = load_recipe(RECIPES / f"{name}.yaml", overrides)
    shape = read_shape(recipe.model)
    assert shape is not None, "a recipe that trains here names a model that is here"
    planned = needs_of(recipe, shape).places[0].account.total / GB
    run = train(name, folder, overrides)
    measured = max(step["memory/peak_gb"] for step in run.steps()) * 2**30 / GB
    step, sampled, learned = (run.median(metric) for metric in ("step_time", "time/sample_s", "time/learn_s"))
    title = f"{label}, {shards} shard{'s' if shards > 1 else ''}"
    return [
        Row(f"{title}: peak memory of the first learner process", measured, "GB"),
        Row(f"{title}: planned", planned, "GB"),
        at_most(f"{title}: the plan's error", abs(planned / measured - 1), "of the measured", ALLOWED_ERROR),
        Row(f"{title}: publish", run.median("publish/bytes_per_second") / 1e6, "MB/s"),
        Row(f"{title}: step", step, "s"),
        Row(f"{title}: the learner waits for answers", sampled / step, "of the step"),
        Row(f"{title}: the engine waits for weights", 1 - sampled / step, "of the step"),
        Row(f"{title}: learning", learned / step, "of the step"),
    ]


if __name__ == "__main__":
    main()
