"""A thousand steps under watch: memory that stays flat, a run folder bounded by its keys, files readable at all times.

    python benchmarks/load.py [--quick]

``grpo train`` runs the tiny mixture of experts in a process of its own. Meanwhile this program

* reads the run's five files at random moments, hundreds of times a second: what a read finds since the one before
  must be whole lines of JSON, and the whole files must be too, at every checkpoint;
* takes, at each step, the memory of the run's processes. It counts anonymous and shared memory (RssAnon, RssShmem of
  /proc/PID/status), which only the program itself can give back; pages of mapped files the kernel takes back as it
  likes. The slope is Theil and Sen's: the median over all pairs of steps, which a single evaluation cannot move;
* counts the checkpoints, and the bytes of each file.

What grows while a run warms up is oneDNN's cache inside vLLM's CPU build: it keeps the code of each product of
matrices, about 0.29 MB for every number of tokens that it has not met before, and at most 1,024 of them
(ONEDNN_PRIMITIVE_CACHE_CAPACITY).

``--quick``: 80 steps, the first 20 of which warm up instead of 200; a slope over so few is a rough one.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from report import Row, at_least, at_most, print_report
from runs import RECIPES

from grpo.run_folder import FILES

KEEP = 2
SETTINGS = (
    *("rollout.problems_per_step=2", "rollout.num_generations=4", "rollout.max_completion_length=16"),
    *("rollout.max_refill_groups=1", "data.num_held_out=8", "evaluation.num_samples=2", "evaluation.every=100"),
    *("checkpoint.every=20", f"checkpoint.keep={KEEP}"),
)
LONGEST_PAUSE_S = 0.02  # between two reads
MB = 1_000_000
MAX_GROWTH = 1.0  # MB per 100 steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--samples", type=Path, help="write each step's memory there, as JSON lines")
    args = parser.parse_args()
    steps, warm_up = (80, 20) if args.quick else (1_000, 200)
    with tempfile.TemporaryDirectory() as scratch:
        watch = watched(Path(scratch) / "run", steps, args.samples or Path(scratch) / "samples.jsonl")
    if len(watch.memory) < steps:
        raise SystemExit(f"the run ended after {len(watch.memory)} of {steps} steps")
    print_report("load", [*memory_rows(watch, warm_up), *file_rows(watch, steps)])


@dataclass(slots=True)
class Watch:
    """What was seen of one run."""

    folder: Path
    memory: list[dict[str, float]] = field(default_factory=list)  # by process id, in bytes; one for each step
    positions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FILES, 0))  # read so far
    num_reads: int = 0
    num_found: int = 0  # reads that found something new
    num_unfinished: int = 0  # of those, the ones that ended amid a line
    num_broken: int = 0  # lines that are no JSON
    most_checkpoints: int = 0  # folders in checkpoints/, the one being written among them
    seconds: float = 0.0

    def read(self, name: str) -> list[dict[str, Any]]:
        """What a file has since the last read of it, parsed."""
        self.num_reads += 1
        try:
            with (self.folder / f"{name}.jsonl").open("rb") as file:
                file.seek(self.positions[name])
                content = file.read()
        except FileNotFoundError:  # the run is still starting
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.num_found += bool(content)
        self.num_unfinished += len(whole) < len(content)
        self.positions[name] += len(whole)
        return [record for line in whole.splitlines() if (record := self._parsed(line)) is not None]

    def read_whole(self) -> None:
        """Every file from its first byte, as a person's tool does."""
        for name in FILES:
            for line in (self.folder / f"{name}.jsonl").read_bytes()[: self.positions[name]].splitlines():
                self._parsed(line)

    def count_checkpoints(self) -> int:
        """How many there are now."""
        folder = self.folder / "checkpoints"
        try:
            number = sum(entry.is_dir() for entry in os.scandir(folder))
        except FileNotFoundError:
            return 0
        self.most_checkpoints = max(self.most_checkpoints, number)
        return number

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:
            self.num_broken += 1
            return None
        return record


def watched(folder: Path, steps: int, samples: Path) -> Watch:
    """Run to the end, and everything that was seen of it; ``samples`` has each step's memory as soon as it is taken."""
    command = [sys.executable, "-m", "grpo.cli", "train", str(RECIPES / "quickstart.yaml"), *SETTINGS]
    watch, generator, started = Watch(folder), random.Random(0), time.perf_counter()
    command += [f"max_steps={steps}", f"output_dir={folder}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process, samples.open("w", buffering=1) as taken:
        while process.poll() is None:
            time.sleep(generator.uniform(0, LONGEST_PAUSE_S))
            for name in generator.sample(FILES, len(FILES)):
                for record in watch.read(name):
                    if "step_time" not in record:
                        continue
                    watch.memory.append(memory_of(process.pid))
                    taken.write(json.dumps(watch.memory[-1]) + "\n")
                    if record["step"] % 100 == 0:
                        watch.read_whole()
            watch.count_checkpoints()
    watch.seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    return watch


def memory_of(pid: int) -> dict[str, float]:
    """Bytes of anonymous and shared memory, of a process and all below it."""
    return {str(process): number for process in tree(pid) if (number := resident_bytes(process))}


def tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread has those that it started
        try:
            started = children.read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        for child in started:
            yield from tree(int(child))


def resident_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def slope_per_100(values: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    """Theil and Sen's estimate of what values grow by in a hundred steps."""
    steps = np.arange(len(values))
    first, second = np.triu_indices(len(values), k=1)
    return float(np.median((values[second] - values[first]) / (steps[second] - steps[first]))) * 100


def memory_rows(watch: Watch, warm_up: int) -> list[Row]:
    totals = np.array([sum(sample.values()) for sample in watch.memory]) / MB
    steady = totals[warm_up:]
    tenth = max(1, len(steady) // 10)
    first, last = float(np.median(steady[:tenth])), float(np.median(steady[-tenth:]))
    return [
        Row("steps", len(totals), ""),
        Row("wall clock of the run", watch.seconds, "s"),
        at_most(f"memory per 100 steps, from step {warm_up} on", slope_per_100(steady), "MB", MAX_GROWTH),
        Row("memory, median of the first tenth after warm-up", first, "MB"),
        Row("memory, median of the last tenth", last, "MB"),
        Row("memory, highest", float(totals.max()), "MB"),
    ]


def file_rows(watch: Watch, steps: int) -> list[Row]:
    rows = [
        at_least("reads of the five files per second", watch.num_reads / watch.seconds, "/s", 100),
        Row("reads that found new lines", watch.num_found, ""),
        at_most("of those, reads that ended amid a line", watch.num_unfinished, "", 0),
        at_most("lines that are no JSON", watch.num_broken, "", 0),
        at_most(f"checkpoint folders at once (keep = {KEEP})", watch.most_checkpoints, "", KEEP + 1),
    ]
    return rows + [Row(f"{name}.jsonl, bytes per step", watch.positions[name] / steps, "B") for name in FILES]


if __name__ == "__main__":
    main()
