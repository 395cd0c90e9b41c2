"""Does the quickstart hold on other seeds, and what kind of learning is it?

    python benchmarks/quickstart_seeds.py [--quick]

Five seeds of ``recipes/quickstart.yaml``, each a process of its own; then, of the first seed's base and trained
model, pass@64 and chains of six numbers, one more than any in pre-training or training; last a control whose rewards
are random, which must not improve. ``--quick``: one seed, ten steps, smaller evaluations; no goal is judged.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean

from report import Row, at_least, at_most, print_report
from runs import Run, evaluate, train

RECIPE = "quickstart"
RANDOM_REWARDS = "rewards=[{name: number, weight: 0, args: {extract: answer_tags}}, {name: random}]"
LONGER_CHAINS = ("data.train.args.min_numbers=6", "data.train.args.max_numbers=6")
QUICK = ("max_steps=10", "evaluation.num_samples=4", "data.num_held_out=64")
MAX_CONTROL_GAIN = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    overrides = QUICK if args.quick else ()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        seeds = range(1 if args.quick else args.seeds)
        runs = [train(RECIPE, folder / f"seed-{seed}", [*overrides, f"seed={seed}"]) for seed in seeds]
        rows = [row for seed, run in zip(seeds, runs, strict=True) for row in seed_rows(seed, run)]
        rows += learning_rows(runs)
        if not args.quick:
            rows += longer_rows(runs[0])
            rows += control_rows(train(RECIPE, folder / "control", [RANDOM_REWARDS]))
    if args.quick:
        rows = [Row(row.name + " (quick)", row.value, row.unit) for row in rows]
    print_report("quickstart_seeds", rows)


def seed_rows(seed: int, run: Run) -> list[Row]:
    before, after = run.before, run.after
    return [
        at_most(f"seed {seed}: pass@1 before", before["pass@1"], "share", 0.45),
        at_least(f"seed {seed}: pass@1 after", after["pass@1"], "share", 0.90),
        at_least(f"seed {seed}: length after / before", after["mean_length"] / before["mean_length"], "ratio", 1.5),
        at_most(f"seed {seed}: whole run", run.seconds, "s", 300),
        at_most(f"seed {seed}: step", run.median("step_time"), "s", 1.5),
        at_most(f"seed {seed}: peak memory", run.steps()[-1]["memory/peak_gb"], "GiB", 3.0),
    ]


def learning_rows(runs: list[Run]) -> list[Row]:
    """What changed: whether answers reason, and how often reasoning is right."""
    rows = []
    for label, name in (("share that reasons", "reasons"), ("accuracy given reasoning", "accuracy_given_reasoning")):
        for moment, values in (("before", [r.before for r in runs]), ("after", [r.after for r in runs])):
            rows.append(Row(f"{label} {moment}, mean of seeds", mean(value[name] for value in values), "share"))
    return rows


def longer_rows(run: Run) -> list[Row]:
    base = evaluate("tiny-base", RECIPE, ["evaluation.num_samples=64"])
    base_longer = evaluate("tiny-base", RECIPE, LONGER_CHAINS)
    trained_longer = evaluate(run.folder, RECIPE, LONGER_CHAINS)
    return [
        at_least("base: pass@64", base["pass@64"], "share", 0.98),
        Row("six-number chains: pass@1 before", base_longer["pass@1"], "share"),
        Row("six-number chains: pass@1 after", trained_longer["pass@1"], "share"),
    ]


def control_rows(run: Run) -> list[Row]:
    gain = run.after["pass@1"] - run.before["pass@1"]
    return [
        Row("random rewards: pass@1 before", run.before["pass@1"], "share"),
        Row("random rewards: pass@1 after", run.after["pass@1"], "share"),
        at_most("random rewards: gain", gain, "share", MAX_CONTROL_GAIN),
    ]


if __name__ == "__main__":
    main()
