"""Every preset on the quickstart, and which corrections hold where engine and learner disagree.

    python benchmarks/algorithms.py [--quick] [--seeds N] [--only NAME ...] [--mismatch] [--plot FILE] [--jobs N]

Each preset trains ``recipes/quickstart.yaml`` from each seed, evaluated on held-out problems as it goes; the tokens are
those learned from. ``--mismatch``: instead, an engine in bf16, a learner in fp32 and answers four versions old, once
for each correction; ``--plot`` draws its curves (needs matplotlib). ``--jobs``: runs side by side, each with its share
of the cores. ``--quick``: one seed, six steps; no goal is judged.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import mean

from report import Row, at_least, print_report
from runs import RECIPES, Run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grpo.recipe.presets import PRESETS  # noqa: E402

GOAL = 0.85
QUICK = ("max_steps=6", "evaluation.num_samples=2", "data.num_held_out=16", "evaluation.every=3")
CURVE = ("evaluation.every=30", "evaluation.num_samples=8")
MISMATCH = (
    *("rollout.engine_dtype=bfloat16", "rollout.max_staleness=4", "rollout.max_refill_groups=0"),
    *("algorithm.num_minibatches=2", "learner.lr_scheduler_type=constant"),
)
MASKED = ("algorithm.importance_sampling_min=0.5", "algorithm.importance_sampling_cap=5.0")
CORRECTIONS: dict[str, tuple[str, ...]] = {
    "none": ("algorithm.importance_sampling_correction=false",),
    "token_truncate": ("algorithm.importance_sampling_mode=token_truncate",),
    "token_mask": ("algorithm.importance_sampling_mode=token_mask", *MASKED),
    "sequence_truncate": ("algorithm.importance_sampling_mode=sequence_truncate",),
    "sequence_mask": ("algorithm.importance_sampling_mode=sequence_mask", *MASKED),
    "off_policy_mask": ("algorithm.importance_sampling_correction=false", "algorithm.off_policy_mask_threshold=0.5"),
    "reinforce, truncated": ("algorithm.policy_loss=reinforce",),
    "old: behavior": ("algorithm.old=behavior",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of presets, or of corrections")
    parser.add_argument("--mismatch", action="store_true")
    parser.add_argument("--plot", type=Path, help="an .svg or .png to draw the mismatch curves into")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    choices = (
        {name: (*MISMATCH, *keys) for name, keys in CORRECTIONS.items()}
        if args.mismatch
        else {name: (f"algorithm={name}",) for name in PRESETS}
    )
    chosen = {name: keys for name, keys in choices.items() if not args.only or name in args.only}
    seeds = range(1 if args.quick else args.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        runs = run_all(chosen, seeds, Path(scratch), QUICK if args.quick else CURVE, args.jobs)
        rows = [row for name in chosen for row in rows_of(name, [runs[name, seed] for seed in seeds], args)]
        if args.plot:
            draw({name: curve([runs[name, seed] for seed in seeds]) for name in chosen}, args.plot)
    print_report("algorithms", rows)


def run_all(
    chosen: Mapping[str, Sequence[str]], seeds: range, scratch: Path, common: Sequence[str], jobs: int
) -> dict[tuple[str, int], Run]:
    """Seed by seed, so that what is there of an interrupted benchmark is of all choices alike."""
    order = list(product(seeds, chosen))
    threads = str(max(1, (os.cpu_count() or 1) // jobs))

    def run_one(place: int) -> Run:
        seed, name = order[place]
        folder = scratch / f"run-{place}"
        overrides = [f"output_dir={folder}", f"seed={seed}", *common, *chosen[name]]
        command = [sys.executable, "-m", "grpo.cli", "train", str(RECIPES / "quickstart.yaml"), *overrides]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": threads}, capture_output=True, text=True)
        run = Run(folder, 0.0)
        if done.returncode:
            print(f"{name}, seed {seed} ended with {done.returncode}: {done.stderr[-500:]}", flush=True)
        else:
            print(f"{name}, seed {seed}: {' '.join(f'{value:.3f}' for _, value in points(run))}", flush=True)
        return run

    with ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(run_one, range(len(order))))
    return {(name, seed): run for (seed, name), run in zip(order, done, strict=True)}


def points(run: Run) -> list[tuple[int, float]]:
    """Held-out pass@1 at each step that it was measured at."""
    return [(record["step"], record["values"]["pass@1"]) for record in run.evaluations()]


def curve(runs: Sequence[Run]) -> list[tuple[int, float]]:
    """The mean over seeds, as far as all of them came."""
    return [(step[0][0], mean(value for _, value in step)) for step in zip(*map(points, runs), strict=False)]


def rows_of(name: str, runs: Sequence[Run], args: argparse.Namespace) -> list[Row]:
    tokens = mean(run.steps()[-1]["num_tokens"] for run in runs)
    means = ", ".join(f"{value:.2f}" for _, value in curve(runs))
    last = [points(run)[-1][1] for run in runs]
    worst = Row(f"{name}: pass@1 after, worst of {len(runs)} seeds", min(last), "share")
    if not args.quick and not args.mismatch:
        worst = at_least(worst.name, worst.value, worst.unit, GOAL)
    return [
        Row(f"{name}: pass@1 by step {means}; mean after", mean(last), "share"),
        worst,
        Row(f"{name}: tokens learned from", tokens / 1e6, "million"),
        Row(f"{name}: largest gradient norm", max(s.get("grad_norm", 0.0) for run in runs for s in run.steps()), ""),
    ]


def draw(curves: Mapping[str, Sequence[tuple[int, float]]], target: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "grpo"  # the same curves, the same file
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for (name, values), style in zip(curves.items(), ("-", "--", "-.", ":") * 2, strict=False):
        axes.plot(*zip(*values, strict=True), style, label=name)
    axes.set(xlabel="step", ylabel="held-out pass@1", ylim=(0, 1), title="bf16 engine, fp32 learner, staleness 4")
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
