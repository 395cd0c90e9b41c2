"""Where a step's time and memory go: sampling, learning, publishing, waits, peak memory.

    python benchmarks/step.py [--quick] [--smollm2 FOLDER]

Runs the quickstart's step (16 problems x 8 answers) and, where a SmolLM2-135M checkpoint is given, 64 answers of at
most 256 tokens in bf16, each in a process of its own. ``--quick``: fewer steps.
"""

import argparse
import tempfile
from pathlib import Path

from report import Row, at_most, print_report
from runs import Run, train

TIMES = ("time/sample_s", "time/score_s", "time/learn_s", "time/publish_s")
RATES = ("tokens_per_second/engine", "tokens_per_second/learner")
UNMEASURED = ("evaluation.num_samples=1", "data.num_held_out=8")  # evaluation is not what is measured here
SMOLLM2 = (
    "learner.dtype=bfloat16",
    "template=chat",
    "data.train.path=arithmetic",
    "rewards.0.args={extract: last_number}",
    "rollout.problems_per_step=8",
    "rollout.num_generations=8",
    "rollout.max_completion_length=256",
    "rollout.max_prompt_length=128",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smollm2", type=Path, help="folder of a SmolLM2-135M checkpoint")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        steps = 6 if args.quick else 30
        quickstart = train("quickstart", Path(scratch) / "tiny", [*UNMEASURED, f"max_steps={steps}"])
        rows = part_rows("quickstart, 16 x 8 answers", quickstart, seconds=1.5, gigabytes=3.0)
        if args.smollm2:
            overrides = [*UNMEASURED, *SMOLLM2, f"model={args.smollm2}", f"max_steps={3 if args.quick else 6}"]
            real = train("smollm2_arithmetic", Path(scratch) / "smollm2", overrides)
            rows += part_rows("SmolLM2-135M bf16, 64 answers of at most 256", real, seconds=60.0, gigabytes=8.0)
    print_report("step", rows)


def part_rows(label: str, run: Run, *, seconds: float, gigabytes: float) -> list[Row]:
    """The step's parts, medians over its steps but the first two."""
    step = run.median("step_time")
    rows = [at_most(f"{label}: step", step, "s", seconds)]
    rows += [Row(f"{label}: {part}", run.median(part), "s") for part in TIMES]
    rows += [Row(f"{label}: {rate}", run.median(rate), "tokens/s") for rate in RATES]
    rest = step - sum(run.median(part) for part in TIMES)
    rows.append(Row(f"{label}: all else", rest, "s"))
    rows.append(Row(f"{label}: mean answer", run.median("completions/mean_length"), "tokens"))
    rows.append(at_most(f"{label}: peak memory", run.steps()[-1]["memory/peak_gb"], "GiB", gigabytes))
    return rows


if __name__ == "__main__":
    main()
