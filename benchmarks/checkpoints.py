"""The share of a run that waits for its checkpoints, saved in the background and waited for, in turn.

    python benchmarks/checkpoints.py [--quick] [--smollm2 FOLDER]

The quickstart as it is shipped (a checkpoint every 25 steps), and SmolLM2-135M on one-digit arithmetic with a
checkpoint (1.6 GB in fp32) every 10 steps. The other side is the same run, waiting for each save to be on the disk.
``--quick``: 31 steps of the quickstart, a checkpoint every 10; 11 steps of SmolLM2-135M.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from report import Row, at_most, print_report
from runs import RECIPES, Run, run_program

WAIT = """
import sys
from grpo.checkpoint_store import CheckpointStore
from grpo.cli import main
save = CheckpointStore.save
def save_and_wait(self, *args, **kwargs):
    path = save(self, *args, **kwargs)
    self.wait()
    return path
CheckpointStore.save = save_and_wait
sys.argv[0] = "grpo"
main()
"""
SIDES = {"in the background": ("-m", "grpo.cli"), "waited for": ("-c", WAIT)}
QUICKSTART = ("evaluation.num_samples=1", "data.num_held_out=32")
SMOLLM2 = ("evaluation.num_samples=1", "data.num_held_out=4", "checkpoint.every=10", "max_steps=31")
GOAL = 0.02  # of the steps' time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smollm2", type=Path, help="folder of a SmolLM2-135M checkpoint")
    args = parser.parse_args()
    quickstart = [*QUICKSTART, *(["max_steps=31", "checkpoint.every=10"] if args.quick else [])]
    rows = rows_of("quickstart", "quickstart", quickstart)
    if args.smollm2:
        smollm2 = [*SMOLLM2, f"model={args.smollm2}", *(["max_steps=11"] if args.quick else [])]
        rows += rows_of("SmolLM2-135M, fp32", "smollm2_arithmetic", smollm2)
    print_report("checkpoints", rows)


def rows_of(label: str, recipe: str, overrides: list[str]) -> list[Row]:
    rows = []
    for side, program in SIDES.items():
        with tempfile.TemporaryDirectory() as scratch:
            arguments = ["train", str(RECIPES / f"{recipe}.yaml"), f"output_dir={scratch}/run", *overrides]
            run = run_program([sys.executable, *program, *arguments], Path(scratch) / "run")
            name = f"{label}, {side}: share of the run"
            share = waiting_share(run)
            rows.append(at_most(name, share, "", GOAL) if program[0] == "-m" else Row(name, share, ""))
    return rows


def waiting_share(run: Run) -> float:
    """Seconds that steps waited for checkpoints over all seconds; the last save, at the end, is no step's."""
    waited = sum(step.get("time/checkpoint_s", 0.0) for step in run.steps())
    return waited / (waited + sum(step["step_time"] for step in run.steps()))


if __name__ == "__main__":
    main()
