"""A run that is killed again and again, against the same run left alone: bit for bit, nothing lost, nothing twice.

    python benchmarks/resume.py [--quick] [--smollm2 FOLDER]

A run of 200 steps is killed (SIGKILL) 50 times at random moments and resumed each time; another is killed once at
each named point of the program (``tests/faults.py``). Both must end with the hash chain of the run that was left
alone, which covers problems, answers, verdicts, gradients' norms and weights of every step, and with the same final
weights. The tiny mixture of experts in fp32 and bf16, and SmolLM2-135M (20 steps, 5 kills) where its folder is given.
``--quick``: 24 steps, 4 kills, fp32.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from report import Row, at_least, at_most, print_report
from runs import RECIPES, read_lines

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grpo.checkpoint import newest_complete  # noqa: E402
from tests.faults import POINTS  # noqa: E402

TINY = (
    *("rollout.problems_per_step=4", "rollout.num_generations=4", "rollout.max_staleness=1"),
    *("data.num_held_out=8", "evaluation.num_samples=1", "checkpoint.every=2", "log.transcripts_per_step=2"),
)
SMOLLM2 = (
    *("template=chat", "data.train.path=arithmetic", "rewards.0.args={extract: last_number}", "data.num_held_out=4"),
    *("rollout.problems_per_step=2", "rollout.num_generations=4", "rollout.max_completion_length=32"),
    *("rollout.max_prompt_length=128", "evaluation.num_samples=1", "checkpoint.every=2"),
)
AT_LEAST_POINTS = 20
SHARE_AT_START = 0.1  # of the kills: before the first step, while model and engine load
STARTING_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smollm2", type=Path, help="folder of a SmolLM2-135M checkpoint")
    args = parser.parse_args()
    steps, kills = (24, 4) if args.quick else (200, 50)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        tiny = [str(RECIPES / "quickstart.yaml"), *TINY, f"max_steps={steps}"]
        rows += rows_of("tiny, fp32", tiny, Path(scratch) / "fp32", kills, points=POINTS)
        if not args.quick:
            bf16 = [*tiny, "learner.dtype=bfloat16"]
            rows += rows_of("tiny, bf16", bf16, Path(scratch) / "bf16", kills, points=())
        if args.smollm2:
            real = [str(RECIPES / "smollm2_arithmetic.yaml"), *SMOLLM2, f"model={args.smollm2}", "max_steps=20"]
            rows += rows_of("SmolLM2-135M, fp32", real, Path(scratch) / "smollm2", 5, points=())
    print_report("resume", rows)


def rows_of(label: str, command: Sequence[str], folder: Path, kills: int, points: Sequence[str]) -> list[Row]:
    """One model: left alone, killed at random moments, killed once at each point."""
    alone, random_run, points_run = (folder / name for name in ("alone", "random", "points"))
    started = time.perf_counter()
    finish(command, alone)
    seconds = time.perf_counter() - started
    killed = kill_at_random(command, random_run, kills, spacing=seconds / kills / 2)
    rows = [at_least(f"{label}: kills at random moments", killed, "", kills), *verdicts(label, alone, random_run)]
    if points:
        reached = kill_at_points(command, points_run, points)
        label = f"{label}, named points"
        rows += [at_least(f"{label}: kills", reached, "", AT_LEAST_POINTS), *verdicts(label, alone, points_run)]
    return rows


def verdicts(label: str, alone: Path, killed: Path) -> list[Row]:
    """How the run that was killed differs from the one left alone, and what its ledger lost or has twice."""
    chains = [read_lines(run / "chain.jsonl") for run in (alone, killed)]
    different = sum(one != other for one, other in zip(*chains, strict=True))
    models = [newest_complete(run / "checkpoints") for run in (alone, killed)]
    same_weights = len({(model / "model.safetensors").read_bytes() for model in models if model is not None}) == 1
    ordinals = [entry["ordinal"] for entry in read_lines(killed / "ledger.jsonl")]
    return [
        at_most(f"{label}: steps that differ of {len(chains[0])}", different, "", 0),
        at_most(f"{label}: final weights that differ", float(not same_weights or None in models), "", 0),
        at_most(f"{label}: groups lost", len(set(range(max(ordinals) + 1)) - set(ordinals)), "", 0),
        at_most(f"{label}: groups that ended twice", len(ordinals) - len(set(ordinals)), "", 0),
    ]


def kill_at_random(command: Sequence[str], folder: Path, kills: int, spacing: float) -> int:
    """Kill the run so many times, each at most ``spacing`` seconds after a step of it was seen, or while it starts."""
    generator = random.Random(0)
    for number in range(kills):
        process = start(command, folder)
        seen, at_start = num_steps(folder), generator.random() < SHARE_AT_START
        while process.poll() is None and num_steps(folder) == seen and not at_start:
            time.sleep(0.05)
        time.sleep(generator.uniform(0, STARTING_S if at_start else spacing))
        if process.poll() is not None:  # it was done before its kill
            return number
        process.kill()
        process.wait()
    finish(command, folder)
    return kills


def kill_at_points(command: Sequence[str], folder: Path, points: Sequence[str]) -> int:
    """Kill the run once at each point, at one of its first visits; returns how many were reached."""
    generator, reached = random.Random(0), 0
    for point in points:
        plan = {"point": point, "occurrence": generator.randint(1, 2), "kind": "kill"}
        process = start(command, folder, ["-m", "tests.faults", json.dumps(plan)])
        reached += process.wait() == -9
    finish(command, folder)
    return reached


def start(command: Sequence[str], folder: Path, program: Sequence[str] = ("-m", "grpo.cli")) -> subprocess.Popen[bytes]:
    """The run in a process of its own, from its last checkpoint."""
    whole = [sys.executable, *program, "train", *command, f"output_dir={folder}", "--resume"]
    return subprocess.Popen(whole, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(command: Sequence[str], folder: Path) -> None:
    if start(command, folder).wait():
        raise SystemExit(f"the run in {folder} did not finish: grpo train {' '.join(command)} output_dir={folder}")


def num_steps(folder: Path) -> int:
    path = folder / "chain.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    main()
