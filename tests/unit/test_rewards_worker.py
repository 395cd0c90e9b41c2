"""The killable worker: limits hold, the child is reaped, and it never outlives its owner."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.worker import Limits, Worker, WorkerDiedError, WorkerLimitError

CHILD = """
import os, signal, sys, time
from rewards.worker import serve

def handle(request):
    match request["do"]:
        case "spin":
            while True:
                pass
        case "spin in C":
            return {"value": len(str(pow(7, 10**9)))}
        case "sleep":
            time.sleep(60)
        case "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "allocate":
            try:
                return {"value": len(bytearray(10**9))}
            except MemoryError:
                return {"value": "refused"}
        case "write":
            try:
                with open(request["path"], "w") as file:
                    file.write("x")
            except OSError as error:
                return {"value": "refused"}
        case "print":
            print("x" * 100_000, flush=True)
        case "environment":
            return {"value": sorted(os.environ)}
        case "flood":
            return {"value": "x" * (2 << 20)}
    return {"value": request.get("value"), "pid": os.getpid()}

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    serve(handle, ready={"ready": True})
"""
LIMITS = Limits(cpu_s=0.3, wall_s=1.2, memory_bytes=512 << 20)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    (tmp_path / "trial_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker("trial_child", LIMITS)
    yield worker
    worker.close()


def is_alive(pid: int) -> bool:
    """Zombies count as alive: they are not reaped."""
    return Path(f"/proc/{pid}").exists()


def wait_until_dead(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def test_one_warm_process_answers_every_request(worker: Worker) -> None:
    pids = {worker.ask({"do": "echo", "value": i})["pid"] for i in range(5)}
    assert pids == {worker.pid}
    assert worker.ask({"do": "echo", "value": "é" * 5000})["value"] == "é" * 5000


@pytest.mark.parametrize("work", ["spin", "spin in C"])
def test_cpu_time_is_bounded_and_the_next_request_is_answered(worker: Worker, work: str) -> None:
    worker.ask({"do": "echo"})
    first = worker.pid
    with pytest.raises(WorkerLimitError, match="CPU time"):
        worker.ask({"do": work})
    assert first is not None
    assert not is_alive(first)
    assert worker.pid is None
    assert worker.ask({"do": "echo", "value": 7})["value"] == 7


def test_cpu_time_is_counted_per_request(worker: Worker) -> None:
    for _ in range(3):
        assert worker.ask({"do": "print"})["value"] is None
    with pytest.raises(WorkerLimitError):
        worker.ask({"do": "spin"})


def test_wall_time_is_the_backstop_of_a_process_that_sleeps_or_is_stopped(worker: Worker) -> None:
    with pytest.raises(WorkerLimitError, match="wall time"):
        worker.ask({"do": "sleep"})
    worker.ask({"do": "echo"})
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerLimitError, match="wall time"):
        worker.ask({"do": "echo"})
    assert worker.ask({"do": "echo", "value": 1})["value"] == 1


def test_a_death_is_told_apart_from_a_limit_and_reaped(worker: Worker) -> None:
    worker.ask({"do": "echo"})
    first = worker.pid
    with pytest.raises(WorkerDiedError, match="-11"):
        worker.ask({"do": "die"})
    assert first is not None
    assert not is_alive(first)


def test_a_child_killed_between_requests_is_noticed(worker: Worker) -> None:
    worker.ask({"do": "echo"})
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        worker.ask({"do": "echo"})
    assert worker.ask({"do": "echo", "value": 2})["value"] == 2


def test_memory_files_prints_and_replies_are_bounded(worker: Worker, tmp_path: Path) -> None:
    assert worker.ask({"do": "allocate"})["value"] == "refused"
    assert worker.ask({"do": "write", "path": str(tmp_path / "out")})["value"] == "refused"
    assert worker.ask({"do": "print", "value": 3})["value"] == 3
    with pytest.raises(WorkerDiedError, match="bytes"):
        worker.ask({"do": "flood"})


def test_the_child_inherits_no_secrets(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    names = set(worker.ask({"do": "environment"})["value"])
    assert "SECRET_TOKEN" not in names
    assert "PYTHONHASHSEED" in names


def test_a_module_that_cannot_start_is_an_error_and_leaves_no_process() -> None:
    worker = Worker("no_such_module", LIMITS)
    with pytest.raises(WorkerDiedError, match="ended with code 1"):
        worker.ask({"do": "echo"})
    assert worker.pid is None


def test_closing_is_idempotent_and_leaks_no_descriptor(worker: Worker) -> None:
    worker.ask({"do": "echo"})
    worker.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        worker.ask({"do": "echo"})
        with pytest.raises(WorkerDiedError):
            worker.ask({"do": "die"})
        worker.close()
        worker.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_forgotten_worker_is_ended(worker: Worker) -> None:
    forgotten = Worker(worker.module, LIMITS)
    forgotten.ask({"do": "echo"})
    pid = forgotten.pid
    del forgotten
    gc.collect()
    assert pid is not None
    assert not is_alive(pid)


def test_threads_share_it(worker: Worker) -> None:
    values: dict[int, object] = {}

    def ask(value: int) -> None:
        values[value] = worker.ask({"do": "echo", "value": value})["value"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == {i: i for i in range(16)}


@pytest.mark.parametrize(
    "ending", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt"]
)
def test_it_does_not_outlive_its_owner(worker: Worker, tmp_path: Path, ending: str) -> None:
    code = f"""
import os, signal, sys
from rewards.worker import Limits, Worker
worker = Worker("trial_child", Limits())
worker.ask({{"do": "echo"}})
print(worker.pid, flush=True)
{ending}
"""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert wait_until_dead(int(done.stdout), 5.0)


def test_a_fork_of_the_owner_gets_a_child_of_its_own_and_ends_no_other(worker: Worker, tmp_path: Path) -> None:
    code = """
import os
from rewards.worker import Limits, Worker
worker = Worker("trial_child", Limits())
first = worker.ask({"do": "echo"})["pid"]
fork = os.fork()
if fork == 0:
    mine = worker.ask({"do": "echo"})["pid"]
    worker.close()
    os._exit(0 if mine != first else 1)
_, code = os.waitpid(fork, 0)
assert code == 0
assert worker.ask({"do": "echo"})["pid"] == first
"""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
