"""Does the policy learn to use its tool?

    python benchmarks/tool_seeds.py [--quick]

Five seeds of ``recipes/tool_python_tiny.yaml``, each a process of its own: held-out pass@1 and the share of answers
that call the tool, before and after. ``--quick``: one seed, four steps, smaller evaluations; no goal is judged.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean

from report import Row, print_report
from runs import Run, train

RECIPE = "tool_python_tiny"
QUICK = ("max_steps=4", "evaluation.num_samples=4", "data.num_held_out=16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    seeds = range(1 if args.quick else args.seeds)
    overrides = QUICK if args.quick else ()
    with tempfile.TemporaryDirectory() as scratch:
        runs = [train(RECIPE, Path(scratch) / str(seed), [*overrides, f"seed={seed}"]) for seed in seeds]
        rows = [
            row for seed, run in zip(seeds, runs, strict=True) for row in seed_rows(seed, run, judged=not args.quick)
        ]
        rows += mean_rows(runs)
    print_report("tool_seeds", rows)


def mean_rows(runs: list[Run]) -> list[Row]:
    """Over the seeds."""
    rows = []
    for name in ("pass@1", "uses_tool"):
        for moment, values in (("before", [run.before for run in runs]), ("after", [run.after for run in runs])):
            rows.append(Row(f"{name} {moment}, mean of seeds", mean(value.get(name, 0.0) for value in values), "share"))
    return rows


def seed_rows(seed: int, run: Run, *, judged: bool) -> list[Row]:
    """Before and after; it has learned where the 95% intervals of both lie apart."""
    first, last = run.evaluations()[0], run.evaluations()[-1]
    rows = []
    for name in ("pass@1", "uses_tool"):
        before, after = first["values"].get(name, 0.0), last["values"].get(name, 0.0)
        gap = last["intervals"].get(name, [0.0])[0] - first["intervals"].get(name, [0.0, 0.0])[1]
        rows += [
            Row(f"seed {seed}: {name} before", before, "share"),
            Row(
                f"seed {seed}: {name} after",
                after,
                "share",
                "intervals apart" if judged else "",
                gap > 0 if judged else None,
            ),
        ]
    return [*rows, Row(f"seed {seed}: whole run", run.seconds, "s")]


if __name__ == "__main__":
    main()
