"""What honest programs, and honest mistakes, get from the sandbox, in either tier."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.sandbox import Outcome, RunStatus, Sandbox, SandboxLimits, SandboxUnavailableError

PATIENT = SandboxLimits(cpu_s=20.0, wall_s=120.0)  # for a machine under load


@pytest.fixture(scope="module", params=[1, 2])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    try:
        box = Sandbox(tier=request.param)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    with box:
        yield box


def run(sandbox: Sandbox, code: str, stdin: str = "") -> Outcome:
    return sandbox.run(code, stdin=stdin, limits=PATIENT)


def call(sandbox: Sandbox, code: str, *args: object, name: str = "f", **kwargs: object) -> Outcome:
    return sandbox.call(code, name, args, kwargs, limits=PATIENT)


def test_a_script_reads_standard_input_and_prints(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "import sys\nprint(sum(map(int, sys.stdin.read().split())))", "1 2\n3\n")
    assert (outcome.status, outcome.stdout, outcome.error) == (RunStatus.FINISHED, "6\n", "")
    assert outcome.cpu_s > 0
    assert outcome.wall_s > 0
    assert outcome.peak_memory_mb > 1


@pytest.mark.parametrize(
    "code",
    [
        "print(input())",
        "print(open(0).read())",
        "print(open('/dev/stdin').read())",
        "import sys\nprint(sys.stdin.buffer.readline().decode())",
        "import os\nprint(os.read(0, 100).decode())",
        "import fileinput\nfor line in fileinput.input(): print(line)",
    ],
)
def test_standard_input_can_be_read_in_every_usual_way(sandbox: Sandbox, code: str) -> None:
    assert run(sandbox, code, "grüße").stdout.strip() == "grüße"


def test_a_large_input_arrives_whole(sandbox: Sandbox) -> None:
    text = "x" * (3 << 20)
    assert run(sandbox, "print(len(input()))", text).stdout == f"{len(text)}\n"


@pytest.mark.parametrize(
    ("code", "status", "error", "line"),
    [
        ("x = 1\n1 / 0", RunStatus.RUNTIME_ERROR, "ZeroDivisionError: division by zero", 2),
        ("def f():\n    raise KeyError('a')\nf()", RunStatus.RUNTIME_ERROR, "KeyError: 'a'", 2),
        ("import json\njson.loads('{')", RunStatus.RUNTIME_ERROR, "JSONDecodeError", 2),
        ("x = (\n", RunStatus.RUNTIME_ERROR, "SyntaxError", 1),
        ("import sys\nsys.exit(3)", RunStatus.RUNTIME_ERROR, "exit status 3", None),
        ("import os\nos._exit(4)", RunStatus.RUNTIME_ERROR, "exit status 4", None),
        ("import os\nos.abort()", RunStatus.RUNTIME_ERROR, "ended by signal SIG", None),
        ("x = bytearray(1 << 34)", RunStatus.MEMORY_LIMIT, "MemoryError", 1),
        ("import os\nos.fork()", RunStatus.FORBIDDEN, "system call fork", None),
        ("import socket\nsocket.socket()", RunStatus.FORBIDDEN, "system call socket", None),
        ("import subprocess\nsubprocess.run(['ls'])", RunStatus.FORBIDDEN, "system call vfork", None),
    ],
)
def test_an_end_has_its_status_reason_and_line(
    sandbox: Sandbox, code: str, status: RunStatus, error: str, line: int | None
) -> None:
    outcome = run(sandbox, code)
    assert (outcome.status, outcome.line) == (status, line)
    assert error in outcome.error
    assert "\n" not in outcome.error


@pytest.mark.parametrize(
    "ending", ["", "raise SystemExit", "import sys; sys.exit(0)", "exit()", "import os; os._exit(0)"]
)
def test_a_script_that_leaves_with_status_0_has_finished(sandbox: Sandbox, ending: str) -> None:
    outcome = run(sandbox, f"print('out', flush=True)\n{ending}")
    assert (outcome.status, outcome.stdout) == (RunStatus.FINISHED, "out\n")


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("if __name__ == '__main__': print('main')", "main\n"),
        ("import atexit\natexit.register(print, 'bye')", "bye\n"),
        (
            "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
            "late\n",
        ),
        ("import asyncio\nasync def f(): print(await asyncio.sleep(0, 5))\nasyncio.run(f())", "5\n"),
        ("import tempfile\nwith tempfile.TemporaryFile() as f: print(f.write(b'abc'))", "3\n"),
        (
            "from concurrent.futures import ThreadPoolExecutor as T\nwith T(4) as t: print(sum(t.map(int, '123')))",
            "6\n",
        ),
        ("import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(50000))", "50000\n"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_STACK, (1 << 24, -1))\nprint(1)", "1\n"),
        ("import resource as r\nr.setrlimit(r.RLIMIT_STACK, (r.RLIM_INFINITY, r.RLIM_INFINITY))\nprint(1)", "1\n"),
        (
            "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(512 << 20)\n"
            "def f(n): return n and 1 + f(n - 1)\n"
            "thread = threading.Thread(target=lambda: print(f(50000)))\nthread.start()\nthread.join()",
            "50000\n",
        ),
        ("import os\nprint(os.path.dirname(__file__) == os.getcwd())", "True\n"),
        ("print(len(str(7 ** 20000)))", "16902\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(A(1))", "A(x=1)\n"),
        ("import sqlite3\nprint(sqlite3.connect(':memory:').execute('select 1').fetchone())", "(1,)\n"),
        ("import time\nprint(time.strftime('%Z'))", "UTC\n"),
        (
            "import signal, time\nsignal.signal(14, lambda *a: 1 / 0)\nsignal.setitimer(0, 0.1)\n"
            "try: time.sleep(60)\nexcept ZeroDivisionError: print('rang')",
            "rang\n",
        ),
    ],
)
def test_what_honest_programs_do_works(sandbox: Sandbox, code: str, printed: str | None) -> None:
    outcome = run(sandbox, code)
    assert (outcome.status, outcome.stdout) == (RunStatus.FINISHED, printed), outcome.error


CLOSELESS = "class Out:\n    def write(self, text): sys.__stdout__.write(text)\n"
BUFFERED = (
    "class Out(io.IOBase):\n    def __init__(self): self.texts = []\n    def writable(self): return True\n"
    "    def write(self, text): self.texts.append(text)\n"
    "    def flush(self): os.write(1, ''.join(self.texts).encode()); self.texts.clear()\n"
)


@pytest.mark.parametrize(
    "code",
    [
        "out = open(1, 'w')\nout.write('3\\n')",
        "out = io.TextIOWrapper(sys.stdout.buffer)\nout.write('3\\n')",
        "out = io.BufferedWriter(io.FileIO(1, 'w'))\nout.write(b'3\\n')",
        "out = open(1, 'w')\nprint(3, file=out)\nsys.exit(0)",
        "out = open(1, 'w')\ndef f(): out.write('3\\n')\nf()",
        "class Out:\n    def __init__(self): self.file = open(1, 'w')\nout = Out()\nout.file.write('3\\n')",
        "out = open(1, 'w')\nself = [out]\nself.append(self)\ndel out\nself[0].write('3\\n')",
        "print = functools.partial(print, file=open(1, 'w'))\nprint(3)",
        "builtins.out = open(1, 'w')\nout.write('3\\n')",
        "out = open(1, 'w')\nclass Node:\n    def f(self): return Node\ntyping.List[Node]\nout.write('3\\n')",
        "class Last:\n    def __del__(self): print(3)\nlast = Last()",
        "total = 3\nclass Last:\n    def __del__(self): print(total)\nlast = Last()",
        f"{CLOSELESS}sys.stdout = Out()\nprint(3)",
        f"{CLOSELESS}    def flush(self): sys.__stdout__.flush()\nsys.stdout = Out()\nprint(3)",
        f"{BUFFERED}out = Out()\nout.write('3\\n')",
        f"{BUFFERED}sys.stdout = Out()\nprint(3)",
        "print(3)\ndel sys.stdout",
    ],
)
def test_what_is_printed_and_never_flushed_arrives(sandbox: Sandbox, code: str) -> None:
    outcome = run(sandbox, f"import builtins, functools, io, os, sys, typing\n{code}")
    assert (outcome.status, outcome.stdout) == (RunStatus.FINISHED, "3\n"), outcome.error


@pytest.mark.parametrize("number", [15, 34, 40, 64])
def test_a_program_may_die_of_any_signal(sandbox: Sandbox, number: int) -> None:
    outcome = run(sandbox, f"import os\nos.kill(os.getpid(), {number})")
    if sandbox.tier == 1:  # the kernel spares process 1 of a namespace
        assert (outcome.status, outcome.error) == (RunStatus.FINISHED, "")
    else:
        name = {15: "SIGTERM", 34: "SIGRTMIN", 40: "40", 64: "SIGRTMAX"}[number]
        assert (outcome.status, outcome.error) == (RunStatus.RUNTIME_ERROR, f"ended by signal {name}")


def test_a_thread_that_asks_for_a_large_stack_leaves_room_for_the_program(sandbox: Sandbox) -> None:
    code = "import threading\nprint(threading.stack_size(512 << 20))\ndef f(): print(len(bytearray(200 << 20)))\n"
    code += (
        "thread = threading.Thread(target=f)\nthread.start()\nthread.join()\nprint(threading.stack_size() > 1 << 26)"
    )
    assert run(sandbox, code).stdout == f"0\n{200 << 20}\nTrue\n"
    other = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"
    assert run(sandbox, other).status is RunStatus.RUNTIME_ERROR


def test_time_limits_say_which_clock(sandbox: Sandbox) -> None:
    spins = sandbox.run("while True: pass", limits=SandboxLimits(cpu_s=0.2, wall_s=120.0))
    assert (spins.status, spins.error) == (RunStatus.TIME_LIMIT, "more than 0.2 s of CPU time")
    assert spins.cpu_s >= 0.2
    sleeps = sandbox.run("import time\ntime.sleep(60)", limits=SandboxLimits(wall_s=0.5))
    assert (sleeps.status, sleeps.error) == (RunStatus.TIME_LIMIT, "more than 0.5 s of wall time")


def test_values_keep_their_types(sandbox: Sandbox) -> None:
    value = {"a": [(1, 2.5, None), {3, True}], (1,): b"x", 2: 1 << 200, "z": 1 + 2j, "r": range(3)}
    outcome = call(sandbox, "def f(x, *, y): return x", value, y=float("inf"))
    assert outcome.value == value
    assert repr(outcome.value) == repr(value)


def test_a_method_of_a_class_can_be_called(sandbox: Sandbox) -> None:
    code = "from typing import List\nclass Solution:\n    def twice(self, x: 'List[int]'): return x * 2"
    assert call(sandbox, code, [1], name="Solution.twice").value == [1, 1]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("g = 1", "NameError: the program defines no 'f'"),
        ("def f(): pass", "TypeError: f() takes 0 positional arguments but 1 was given"),
        ("def f(x): return object()", "a value of type object cannot cross; builtin types can"),
        ("def f(x): return f", "a value of type function cannot cross"),
        ("def f(x): return [f(x)]", "RecursionError: maximum recursion depth exceeded"),
        ("def f(x): import os; os._exit(0)", "the program exited (status 0) before the call returned"),
        ("def f(x): exit()", "SystemExit"),
    ],
)
def test_a_call_without_a_value_says_why(sandbox: Sandbox, code: str, error: str) -> None:
    outcome = call(sandbox, code, [1])
    assert outcome.status is RunStatus.RUNTIME_ERROR
    assert error in outcome.error
    assert outcome.value is None


def test_a_session_keeps_its_program_between_calls(sandbox: Sandbox) -> None:
    code = "n = 0\ndef f(step):\n    global n\n    n += step\n    print('now', n)\n    return n\n"
    code += "def g():\n    raise ValueError('no')"
    with sandbox.session(code, limits=PATIENT) as session:
        first, second, third, fourth = (session.call(*args) for args in (("f", [2]), ("f", [3]), ("g", []), ("f", [4])))
    assert (first.value, first.stdout, second.value, second.stdout) == (2, "now 2\n", 5, "now 5\n")
    assert (third.status, third.error, third.line) == (RunStatus.RUNTIME_ERROR, "ValueError: no", 8)
    assert fourth.value == 9


def test_a_session_whose_program_ended_says_so_from_then_on(sandbox: Sandbox) -> None:
    with sandbox.session("import os\ndef f(): os._exit(0)\ndef g(): return 1", limits=PATIENT) as session:
        outcomes = [session.call("f", []), session.call("g", []), session.call("g", [])]
    assert {outcome.status for outcome in outcomes} == {RunStatus.RUNTIME_ERROR}


@pytest.mark.parametrize(
    "afterwards",
    [
        "threading.Timer(0.0, os._exit, (0,)).start()",  # replies, then is gone
        "os.write(4, struct.pack('>IIc', 1, 2, b'v') + b'7')",  # replies to the call that has not come yet
        "os.write(4, struct.pack('>IIc', 1, 9, b'v') + b'7')",  # replies to nobody
    ],
)
def test_a_value_never_stands_for_another_call(sandbox: Sandbox, afterwards: str) -> None:
    code = f"import os, struct, threading\ndef f(x):\n    {afterwards}\n    return x"
    with sandbox.session(code, limits=PATIENT) as session:
        outcomes = [session.call("f", [place]) for place in (100, 101, 102, 103)]
    assert all(outcome.value in (place, None, 7) for place, outcome in zip((100, 101, 102, 103), outcomes, strict=True))
    assert outcomes[-1].status is RunStatus.RUNTIME_ERROR


def test_a_session_has_one_budget(sandbox: Sandbox) -> None:
    code = "from time import process_time as now\ndef f():\n    end = now() + 0.15\n"
    code += "    while now() < end: pass\n    return 1"
    with sandbox.session(code, limits=SandboxLimits(cpu_s=0.4, wall_s=120.0)) as session:
        outcomes = [session.call("f", []) for _ in range(4)]
    assert outcomes[0].value == 1
    assert outcomes[-1].status is RunStatus.TIME_LIMIT


def test_a_definition_that_fails_is_the_first_calls_error(sandbox: Sandbox) -> None:
    outcome = call(sandbox, "x = 1\nassert x == 2, 'not two'\ndef f(): return 1")
    assert (outcome.status, outcome.error, outcome.line) == (RunStatus.RUNTIME_ERROR, "AssertionError: not two", 2)


def test_runs_repeat_exactly_but_for_random_numbers(sandbox: Sandbox) -> None:
    sets = {run(sandbox, "print({'a', 'b', 'c', 'd', 'e'})").stdout for _ in range(2)}
    draws = {run(sandbox, "import random\nprint(random.random())").stdout for _ in range(2)}
    assert (len(sets), len(draws)) == (1, 2)


def test_arguments_that_cannot_cross_are_the_callers_mistake(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="a value of type object cannot cross"):
        call(sandbox, "def f(x): return x", object())


@pytest.mark.parametrize("name", ["cpu_s", "memory_mb", "threads"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", True, 10**21])
def test_a_limit_is_a_positive_number(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}: got"):
        SandboxLimits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"num_workers": 0}, {"num_workers": True}, {"tier": 3}, {"tier": 0}])
def test_a_sandbox_refuses_arguments_that_make_no_sense(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} = "):
        Sandbox(**arguments)  # type: ignore[arg-type]


def test_only_a_run_of_a_machine_without_protection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.sandbox_worker._COMMAND", ("-c", REFUSED))
    with pytest.raises(SandboxUnavailableError, match=r"tier 1: no namespaces; tier 2: no namespaces\. .*sysctl"):
        Sandbox()


# Stands in for a kernel without namespaces and Landlock, which a test cannot make of the one that it runs on.
REFUSED = 'import socket, sys; socket.socket(fileno=int(sys.argv[1])).send(b\'{"unavailable": "no namespaces"}\')'


def test_an_interpreter_that_cannot_be_run_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys._base_executable", str(tmp_path / "python"))
    with pytest.raises(SandboxUnavailableError, match="no zygote can be started.*No such file"):
        Sandbox()
