"""Children: heard, told why they ended, and never left behind. Every test starts real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grpo.processes import Child, ChildDiedError

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, subprocess, sys, time
from grpo.processes import parent_connection

connection = parent_connection()
while True:
    try:
        order = connection.recv()
    except EOFError:
        sys.exit(0)
    if order == "raise":
        raise ValueError("nobody can say why")
    if order == "sleep":
        time.sleep(600)
    if order == "exit":
        sys.exit(7)
    if order == "grandchild":
        connection.send(subprocess.Popen(["sleep", "600"]).pid)
    if order == "hang up":
        connection.close()
        time.sleep(600)
    if order == "environment":
        connection.send((os.environ.get("COLOUR"), os.environ.get("HOME"), os.getsid(0) == os.getpid()))
    if order == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if isinstance(order, list):
        print("heard", order, flush=True)
        connection.send(order[::-1])
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Child]]:
    (tmp_path / "child_program.py").write_text(PROGRAM, encoding="utf-8")
    children: list[Child] = []

    def begin(patience_s: float | None = None) -> Child:
        environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "COLOUR": "green"}
        log = tmp_path / "logs" / "child.log"
        child = Child("the child", "child_program", log=log, environment=environment, patience_s=patience_s)
        children.append(child)
        return children[-1]

    yield begin
    for child in children:
        child.kill()


def goes(pid: int) -> bool:
    """Whether a process ends within seconds (a zombie has ended)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_messages_go_both_ways_and_what_it_prints_goes_into_its_log(start: Callable[[], Child]) -> None:
    child = start()
    child.send([1, "two", None])
    assert child.receive(60) == [None, "two", 1]
    assert "heard [1, 'two', None]" in child.log.read_text(encoding="utf-8")


def test_it_has_its_own_variables_beside_ours_and_a_session_of_its_own(start: Callable[[], Child]) -> None:
    child = start()
    child.send("environment")
    assert child.receive(60) == ("green", os.environ.get("HOME"), True)


def test_an_exception_is_in_the_obituary_with_its_traceback(start: Callable[[], Child]) -> None:
    child = start()
    child.send("raise")
    with pytest.raises(ChildDiedError, match="exit code 1") as caught:
        child.receive(60)
    assert "the child" in str(caught.value)
    assert "ValueError: nobody can say why" in str(caught.value)
    assert not child.is_alive()


def test_an_exit_code_and_a_signal_are_named(start: Callable[[], Child]) -> None:
    child = start()
    child.send("exit")
    with pytest.raises(ChildDiedError, match="ended with exit code 7"):
        child.receive(60)
    child = start()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDiedError, match="was killed by SIGKILL"):
        child.receive(60)


def test_an_obituary_quotes_nothing_of_an_earlier_start(start: Callable[[], Child]) -> None:
    first = start()
    first.send("raise")
    with pytest.raises(ChildDiedError, match="nobody can say why"):
        first.receive(60)
    second = start()
    second.send("exit")
    with pytest.raises(ChildDiedError) as caught:
        second.receive(60)
    assert "nobody can say why" not in str(caught.value)
    assert "nobody can say why" in second.log.read_text(encoding="utf-8"), "the log keeps both"


def test_silence_is_a_timeout_and_not_a_death(start: Callable[[], Child]) -> None:
    child = start()
    child.send("sleep")
    with pytest.raises(TimeoutError, match=r"the child \(process \d+\) said nothing for 0 s"):
        child.receive(0.05)
    assert child.is_alive()


def test_a_closed_connection_is_told_from_an_end(start: Callable[[], Child]) -> None:
    child = start()
    child.send("hang up")
    with pytest.raises(ChildDiedError, match="closed its connection and goes on"):
        child.receive(60)


def test_sending_to_the_dead_says_how_they_died(start: Callable[[], Child]) -> None:
    child = start()
    child.kill()
    with pytest.raises(ChildDiedError, match="killed by SIGKILL"):
        child.send([1])


def test_one_that_has_stopped_reading_is_killed_and_named(start: Callable[[float], Child]) -> None:
    child = start(0.3)
    child.send([1])
    child.receive(60)
    child.send("stop")
    with pytest.raises(ChildDiedError, match=r"the child \(process \d+\) read nothing .* for 0 s and was killed"):
        child.send(b"." * 50_000_000)  # more than any pipe holds
    assert child.process.returncode == -signal.SIGKILL


def test_a_message_larger_than_the_pipe_reaches_one_that_reads(start: Callable[[float], Child]) -> None:
    child = start(30.0)
    child.send(["." * 10_000_000, 2])
    assert [len(str(part)) for part in child.receive(60)] == [1, 10_000_000]


def test_ending_asks_first_kills_what_goes_on_and_may_be_repeated(start: Callable[[], Child]) -> None:
    willing = start()
    willing.send([1])
    willing.receive(60)
    willing.end(60)
    assert willing.process.returncode == 0
    willing.end()
    busy = start()
    busy.send("sleep")
    busy.end(0.2)
    assert busy.process.returncode == -signal.SIGKILL


def test_what_it_started_itself_ends_with_it(start: Callable[[], Child]) -> None:
    child = start()
    child.send("grandchild")
    grandchild = child.receive(60)
    child.end(60)
    assert child.process.returncode == 0, "it ended by itself, and left its own child"
    assert goes(grandchild)


def test_it_is_gone_when_its_parent_is_killed(tmp_path: Path, start: Callable[[], Child]) -> None:
    start()  # writes the program
    parent_program = (
        "import sys, time; from pathlib import Path; from grpo.processes import Child\n"
        "child = Child('c', 'child_program', log=Path(sys.argv[1]) / 'c.log'); child.send([1]); child.receive(60)\n"
        "child.send('sleep'); print(child.pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", parent_program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        os.kill(parent.pid, signal.SIGKILL)
    assert goes(pid)
