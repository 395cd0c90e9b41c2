"""Does a run whose verifier fails on 3% of the answers learn as well as one whose verifier never does?

    python benchmarks/unreliable_verifier.py [--quick]

Five seeds of the quickstart cut to 40 steps, with and without failures in turn, then judged by the verifier that
never fails. At 20% the run must stop and say why. ``--quick``: one seed, six steps; no goal is judged.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

from report import Row, print_report
from runs import RECIPES, evaluate, train

RECIPE = "quickstart"
FUNCTION = Path(__file__).with_name("failing_reward.py")
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # two-sided Student t of n seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    seeds = range(1 if args.quick else args.seeds)
    steps = 6 if args.quick else 40
    overrides = [f"max_steps={steps}", "evaluation.every=0", "checkpoint.every=0"]
    after: dict[str, list[float]] = {"never fails": [], "fails on 3%": []}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            for label, share in (("never fails", 0.0), ("fails on 3%", 0.03)):
                folder = Path(scratch) / f"{share}-{seed}"
                train(RECIPE, folder, [*overrides, failing(share), f"seed={seed}"])
                after[label].append(evaluate(folder, RECIPE, [f"seed={seed}"])["pass@1"])
        message = stopped_with(Path(scratch) / "stopped", [*overrides, failing(0.2)])
    rows = [row for label, values in after.items() for row in seed_rows(label, values)]
    if not args.quick:
        (low, high), (low_failing, high_failing) = (interval(values) for values in after.values())
        overlap = min(high, high_failing) - max(low, low_failing)
        rows.append(Row("overlap of the 95% intervals over seeds", overlap, "share", ">= 0", overlap >= 0))
    stopped = "could not be scored" in message
    rows.append(Row("fails on 20%: the run stops and says why", float(stopped), "", "1", stopped))
    print(message.strip())
    print_report("unreliable_verifier", rows)


def failing(share: float) -> str:
    return f"rewards=[{{fn: '{FUNCTION}:number_or_failure', args: {{share: {share}}}}}]"


def seed_rows(label: str, values: list[float]) -> list[Row]:
    rows = [Row(f"{label}: seed {seed}: pass@1 after", value, "share") for seed, value in enumerate(values)]
    return [*rows, Row(f"{label}: mean", mean(values), "share")]


def interval(values: list[float]) -> tuple[float, float]:
    half = T_95[len(values)] * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def stopped_with(folder: Path, overrides: list[str]) -> str:
    """What a run that must not go on says last; its output is not shown."""
    recipe = str(RECIPES / f"{RECIPE}.yaml")
    command = [sys.executable, "-m", "grpo.cli", "train", recipe, f"output_dir={folder}", *overrides]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode == 1 else f"exit code {done.returncode}"


if __name__ == "__main__":
    main()
