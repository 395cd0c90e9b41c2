"""Whole runs on several processes, as a user starts them: they finish, and when one process dies, that is said."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart_2x2.yaml"
SMALL = (
    *("evaluation.num_samples=1", "data.num_held_out=16", "evaluation.every=0", "checkpoint.every=2"),
    *("rollout.problems_per_step=8", "rollout.num_generations=4", "rollout.max_refill_groups=0"),
)
ALONE = ("parallel.shard=1", "rollout.num_engines=0")
SECONDS = 180.0  # for a run of a few steps on a machine that does other things, too


def command(folder: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "grpo.cli", "train", str(RECIPE), *SMALL, f"output_dir={folder}", *overrides]


def finish(folder: Path, *overrides: str) -> None:
    done = subprocess.run(command(folder, *overrides), capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running(arguments: Sequence[str], **kwargs: Any) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **kwargs
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def steps(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
    return [line for line in map(json.loads, lines) if "step_time" in line]


def wait_for_step(folder: Path, step: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + SECONDS
    while not any(line["step"] >= step for line in steps(folder)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.1)


def descendants(pid: int, module: str) -> list[int]:
    """Processes that ``pid`` has started, running ``module``, oldest first."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if module.encode() in words and parent == pid:
            found.append(int(path.name))
    return sorted(found)


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """A run whose second learner rank is killed in its third or fourth step: folder, output, seconds to its end."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    with running(command(folder, "max_steps=50")) as process:
        wait_for_step(folder, 3, process)
        (rank,) = descendants(process.pid, "grpo.learner.rank_process")
        engines = descendants(process.pid, "grpo.engine.replica_process")
        os.kill(rank, signal.SIGKILL)
        began = time.monotonic()
        output, _ = process.communicate(timeout=60)
        seconds = time.monotonic() - began
        assert process.returncode == 1, output
        assert len(engines) == 2
        assert all(map(is_gone, engines))
    return folder, output, seconds


def test_a_killed_rank_ends_the_run_and_is_named(killed: tuple[Path, str, float]) -> None:
    _, output, seconds = killed
    assert "learner rank 1" in output
    assert "was killed by SIGKILL" in output
    assert "Traceback" not in output
    assert seconds < 30


def test_it_goes_on_alike_on_one_process_and_on_two(killed: tuple[Path, str, float], tmp_path: Path) -> None:
    folder, _, _ = killed
    runs = [tmp_path / "two", tmp_path / "one"]
    for target, overrides in zip(runs, ((), ALONE), strict=True):
        subprocess.run(["cp", "-r", str(folder), str(target)], check=True)
        finish(target, "max_steps=6", "--resume", *overrides)
    two, one = map(steps, runs)
    assert [line["step"] for line in two] == [line["step"] for line in one] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(two, one, strict=True):
        for name in ("loss", "grad_norm", "reward", "completions/mean_length", "entropy"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, err_msg=f"{name} of step {ours['step']}")
    ledgers = [sorted((target / "ledger.jsonl").read_text().splitlines()) for target in runs]
    groups = [[json.loads(line)["group_id"] for line in ledger] for ledger in ledgers]
    assert groups[0] == groups[1]
    assert len(set(groups[0])) == len(groups[0])


@pytest.mark.slow
def test_a_killed_replica_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with running(command(folder, "max_steps=8")) as process:
        wait_for_step(folder, 2, process)
        first = descendants(process.pid, "grpo.engine.replica_process")[0]
        os.kill(first, signal.SIGKILL)
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
    assert "was killed by SIGKILL" in output
    ledger = [json.loads(line)["group_id"] for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert len(ledger) == len(set(ledger)) == 8 * 8
    assert [line["step"] for line in steps(folder)] == list(range(1, 9))


@pytest.mark.slow
def test_nobody_is_left_of_a_run_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with running(command(folder, "max_steps=50")) as process:
        wait_for_step(folder, 1, process)
        others = descendants(process.pid, "grpo.learner.rank_process")
        others += descendants(process.pid, "grpo.engine.replica_process")
        assert len(others) == 3
        process.kill()
        process.wait()
        assert all(map(is_gone, others))


@pytest.mark.slow
def test_an_interrupt_finishes_the_step_saves_and_leaves_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with running(command(folder, "max_steps=50", "checkpoint.every=0")) as process:
        wait_for_step(folder, 1, process)
        others = descendants(process.pid, "grpo.learner.rank_process")
        others += descendants(process.pid, "grpo.engine.replica_process")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 130, output
        assert all(map(is_gone, others))
    assert len(list((folder / "checkpoints").glob("step-*"))) == 1
    assert "Traceback" not in output


@pytest.mark.slow
def test_torchrun_starts_the_same_run(tmp_path: Path) -> None:
    launched, own = tmp_path / "launched", tmp_path / "own"
    finish(own, "max_steps=2")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*torchrun, *command(launched, "max_steps=2")[2:]],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for ours, theirs in zip(steps(launched), steps(own), strict=True):
        np.testing.assert_allclose(ours["grad_norm"], theirs["grad_norm"], rtol=1e-6)
