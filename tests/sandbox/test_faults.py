"""What breaks around the sandbox: a run is done again or says that it was not scored; none is scored for it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewards import sandbox_execution
from rewards.sandbox import RunStatus, Sandbox, SandboxLimits
from tests.sandbox.run_attacks import descendants

ROOT = Path(__file__).parents[2]
PATIENT = SandboxLimits(cpu_s=20.0, wall_s=120.0)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def later(delay_s: float, action: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(delay_s, action)
    timer.start()
    return timer


@pytest.mark.parametrize("victim", ["launcher", "zygote"])
def test_a_run_whose_zygote_is_killed_is_done_again(victim: str) -> None:
    with Sandbox() as sandbox:
        launcher = sandbox.pids[0]
        pid = launcher if victim == "launcher" else children_of(launcher)[0]
        timer = later(0.3, lambda: os.kill(pid, signal.SIGKILL))
        outcome = sandbox.run("import time\ntime.sleep(1.5)\nprint('done')", limits=PATIENT)
        timer.join()
        assert (outcome.status, outcome.stdout) == (RunStatus.FINISHED, "done\n")
        assert sandbox.pids != [launcher]


def test_a_zygote_that_is_stopped_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_execution, "_PATIENCE_S", 1.0)
    with Sandbox() as sandbox:
        launcher = sandbox.pids[0]
        os.kill(children_of(launcher)[0], signal.SIGSTOP)
        outcome = sandbox.run("print('done')", limits=SandboxLimits(wall_s=5.0))
        assert (outcome.status, outcome.stdout) == (RunStatus.FINISHED, "done\n")
        assert sandbox.pids != [launcher]


def test_a_session_whose_zygote_is_killed_is_not_scored() -> None:
    with Sandbox() as sandbox:
        with sandbox.session("def f(): return 1", limits=PATIENT) as session:
            assert session.call("f", []).value == 1
            zygote = children_of(sandbox.pids[0])[0]
            os.kill(zygote, signal.SIGKILL)
            wait_until(lambda: not is_alive(zygote))
            outcomes = [session.call("f", []), session.call("f", [])]
        assert [outcome.status for outcome in outcomes] == [RunStatus.SANDBOX_FAILURE] * 2
        assert sandbox.call("def f(): return 1", "f", [], limits=PATIENT).value == 1


def test_a_run_that_is_closed_under_way_is_not_scored() -> None:
    sandbox = Sandbox()
    timer = later(0.5, sandbox.close)
    outcome = sandbox.run("import time\ntime.sleep(60)", limits=PATIENT)
    timer.join()
    assert outcome.status is RunStatus.SANDBOX_FAILURE
    assert sandbox.run("print(1)").status is RunStatus.SANDBOX_FAILURE


@pytest.mark.parametrize("tier", [1, 2])
def test_a_full_disk_is_the_programs_own(tier: int) -> None:
    fill = "f = open('x', 'wb')\nwhile True:\n    f.write(b'x' * 65536)\n    f.flush()"
    with Sandbox(tier=tier) as sandbox:
        outcome = sandbox.run(fill, limits=SandboxLimits(disk_mb=1, wall_s=60.0))
        assert outcome.status in (RunStatus.RUNTIME_ERROR, RunStatus.OUTPUT_LIMIT)
        again = sandbox.run("open('x', 'wb').write(b'x' * 500000)\nprint('fits')", limits=PATIENT)
        assert again.stdout == "fits\n"


def test_an_output_flood_ends_at_the_limit() -> None:
    with Sandbox() as sandbox:
        outcome = sandbox.run("while True: print('x' * 999)", limits=SandboxLimits(output_bytes=5000, wall_s=60.0))
        assert outcome.status is RunStatus.OUTPUT_LIMIT
        assert len(outcome.stdout) == 5000


def test_many_callers_share_few_workers() -> None:
    with Sandbox(num_workers=2) as sandbox, ThreadPoolExecutor(16) as threads:
        outcomes = list(
            threads.map(lambda n: sandbox.call("def f(n): return n * n", "f", [n], limits=PATIENT), range(40))
        )
        assert [outcome.value for outcome in outcomes] == [n * n for n in range(40)]
        assert len(sandbox.pids) == 2


def test_nothing_is_left_after_use() -> None:
    before, files = descendants(), len(os.listdir("/proc/self/fd"))
    folders = set(Path("/tmp").glob("grpo-sandbox-*"))
    with Sandbox(num_workers=2) as sandbox:
        for code in ("print(1)", "import os; os.fork()", "1 / 0", "import os; os.mkdir('x', 0)"):
            sandbox.run(code, limits=PATIENT)
        with sandbox.session("def f(): return 1", limits=PATIENT) as session:
            session.call("f", [])
    assert descendants() == before
    assert len(os.listdir("/proc/self/fd")) == files
    assert set(Path("/tmp").glob("grpo-sandbox-*")) <= folders


@pytest.mark.parametrize("tier", [1, 2])
def test_nothing_is_left_of_a_grader_that_is_killed(tier: int) -> None:
    folders = set(Path("/tmp").glob("grpo-sandbox-*"))
    code = f"from rewards.sandbox import Sandbox\ns = Sandbox(tier={tier})\nprint(s.pids[0], flush=True)\n"
    code += 's.run(\'open("x", "w")\\nwhile True: pass\')'
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as grader:
        assert grader.stdout is not None
        launcher = int(grader.stdout.readline())
        grader.kill()
    wait_until(lambda: not is_alive(launcher))
    assert set(Path("/tmp").glob("grpo-sandbox-*")) <= folders
