"""The process that programs are forked from: ``python sandbox_zygote.py CONTROL TIER WORKSPACE``.

It is exec'd, never forked from the grader, and is told limits only: code, inputs and outputs travel in descriptors that
it hands on unread. So a program finds in its copied memory neither an expected value nor another program.

Two processes: the launcher enters the closed world and waits; its child, process 1 of the world, is the zygote. The
kernel ends everything in the world with the zygote, and the zygote with the launcher.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":  # the package without its __init__, which would import every verifier
    _package = types.ModuleType("rewards")
    _package.__path__ = [str(Path(__file__).parent)]
    sys.modules["rewards"] = _package

from rewards import sandbox_kernel as kernel
from rewards import sandbox_workspace as workspace
from rewards.sandbox_child import run_program
from rewards.sandbox_confine import World, become_confined
from rewards.sandbox_installation import PREIMPORTED, add_packages, readable_paths
from rewards.sandbox_landlock import landlock_abi
from rewards.sandbox_namespaces import DEVICES, enter_world
from rewards.sandbox_seccomp import build_template, read_notification

MESSAGE_BYTES = 1 << 12
NUM_GIVEN = 5  # descriptors that come with a run: program, standard input, standard output, replies, calls
_ORPHAN_CHECK_S = 5.0
_FIRST_LOOK_MS, _LOOK_MS = 20, 50


class LimitPassedError(Exception):
    """Which limit ends the program: one that is seen here ("cpu", "threads", "disk"), or by the grader."""


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    owner = os.getppid()
    os.environ.clear()
    try:
        add_packages()
        readable, tier = readable_paths(), int(sys.argv[2])
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        abi = _landlock(tier)
        if tier == 1:
            enter_world(readable)
        zygote = os.fork()
        if zygote == 0:
            _become_zygote(control, tier, abi, tuple(readable), proc)
    except (OSError, ImportError) as error:
        _send(control, {"unavailable": str(error)})
        return
    control.close()
    _watch(zygote, owner, sys.argv[3])


def _landlock(tier: int) -> int:
    """The kernel's version; 0 where it has none, which tier 2, with nothing else to keep files away, cannot do with."""
    try:
        return landlock_abi()
    except OSError:
        if tier == 2:
            raise
        return 0


def _watch(zygote: int, owner: int, folder: str) -> None:
    """The launcher's part: end with the zygote, and end it when the grader is gone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while os.waitpid(zygote, os.WNOHANG) == (0, 0):
        signal.sigtimedwait({signal.SIGCHLD}, _ORPHAN_CHECK_S)
        if os.getppid() != owner:
            os.kill(zygote, signal.SIGKILL)
    if folder and os.getppid() != owner:  # else the grader does it
        with contextlib.suppress(OSError):
            workspace.empty(folder)
            os.rmdir(folder)


def _become_zygote(control: socket.socket, tier: int, abi: int, readable: tuple[str, ...], proc: int) -> NoReturn:
    kernel.process_control(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if tier == 2:
        kernel.process_control(kernel.PR_SET_CHILD_SUBREAPER, 1)
    kernel.share_one_heap()
    for name in PREIMPORTED:
        importlib.import_module(name)
    own_processes = os.open("self/ns/pid", os.O_RDONLY, dir_fd=proc)
    num_pages = int(_read("self/statm", proc).split()[0])
    world = World(
        tier=tier,
        landlock=abi,
        readable=(*readable, *DEVICES),
        workspace=sys.argv[3],
        baseline_bytes=num_pages * resource.getpagesize(),
        filter_template=build_template(),
        proc=proc,
    )
    for name in [name for name in sys.modules if name.partition(".")[0] == "rewards"]:
        del sys.modules[name]  # a program has no use for them
    gc.collect()
    gc.freeze()  # a fork then shares these objects' memory for good
    _send(control, {"ready": True, "landlock": abi})
    while True:
        _serve(control, world, own_processes)


def _serve(control: socket.socket, world: World, own_processes: int) -> None:
    request, given = _receive(control)
    if not request:
        os._exit(0)
    if request["op"] != "run":  # a kill that came when its program had just ended
        return
    try:
        ending = _run(control, world, request, given, own_processes)
    except OSError as error:
        ending = {"failure": str(error)}
    _send(control, {"run": request["run"], **ending})


def _run(
    control: socket.socket, world: World, request: dict[str, Any], given: list[int], own_processes: int
) -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    try:
        if world.tier == 1:
            kernel.enter_namespace(own_processes, kernel.CLONE_NEWPID)
            kernel.unshare(kernel.CLONE_NEWPID)  # the next fork is process 1 of a namespace of its own
        pid = os.fork()
        if pid == 0:
            control.detach()
            ours.detach()
            _become_program(world, request["limits"], given, theirs)
    finally:
        theirs.close()
        for descriptor in given:
            os.close(descriptor)
    with ours:
        ending = Run(pid=pid, number=request["run"], limits=request["limits"], world=world).watch(control, ours)
    if world.tier == 2:
        workspace.empty(world.workspace)
    return ending


def _become_program(world: World, limits: dict[str, Any], given: list[int], report: socket.socket) -> NoReturn:
    status = 1
    try:
        if become_confined(world, limits, given, report):
            status = run_program()
    finally:  # whatever the program has done to this interpreter, it must not go on as a zygote
        os._exit(status)


@dataclass(slots=True, kw_only=True)
class Run:
    """One forked program, from its fork to its reaping."""

    pid: int
    number: int
    limits: dict[str, Any]
    world: World
    listener: int = -1
    failure: str = ""
    forbidden: str = ""
    limit: str = ""
    waited_s: float = 0.0

    def watch(self, control: socket.socket, report: socket.socket) -> dict[str, Any]:
        """Wait for the end, or bring it about; returns what is told to the grader."""
        start = time.monotonic()
        end = os.pidfd_open(self.pid)
        poll = select.poll()
        for source in (end, control.fileno(), report.fileno()):
            poll.register(source, select.POLLIN)
        look_ms = _FIRST_LOOK_MS
        try:
            while end not in (ready := dict(poll.poll(self._patience_ms(look_ms)))):
                self._react(ready, poll, control, report)
                look_ms = _LOOK_MS
            if report.fileno() in ready and self.listener < 0:
                self._hear_report(poll, report)
        except LimitPassedError as passed:
            self.limit = str(passed)
            self.waited_s = self._waited_s(end) if self.limit == "wall" else 0.0
        finally:
            os.kill(self.pid, signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
            os.close(end)
            if self.listener >= 0:
                os.close(self.listener)
        return {
            "failure": self.failure,
            "forbidden": self.forbidden,
            "limit": self.limit,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "exit": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "wall_s": time.monotonic() - start,
            "waited_s": self.waited_s,
            "peak_memory_mb": usage.ru_maxrss / 1024,
        }

    def _patience_ms(self, look_ms: int) -> int:
        """Threads spend CPU time faster than the clock runs."""
        left_ms = (self.limits["cpu_s"] - self._cpu_s()) * 1000 / (os.cpu_count() or 1)
        return max(1, min(look_ms, int(left_ms)))

    def _react(self, ready: dict[int, int], poll: select.poll, control: socket.socket, report: socket.socket) -> None:
        if report.fileno() in ready:
            self._hear_report(poll, report)
        if self.listener in ready:
            self._hear_kernel(poll, ready[self.listener])
        if control.fileno() in ready:
            self._hear_grader(control)
        if self._cpu_s() > self.limits["cpu_s"]:
            raise LimitPassedError("cpu")
        if self.world.tier == 2:
            self._look()

    def _hear_report(self, poll: select.poll, report: socket.socket) -> None:
        """Confined, with the listener of its system calls; or what kept it from being so."""
        text, descriptors, _, _ = socket.recv_fds(report, MESSAGE_BYTES, 1)
        poll.unregister(report)
        if descriptors:
            self.listener = descriptors[0]
            poll.register(self.listener, select.POLLIN)
        else:
            self.failure = text.decode() or "the process died before it was confined"

    def _hear_kernel(self, poll: select.poll, event: int) -> None:
        if not event & select.POLLIN:  # nobody is left under the filter: the end is near, do not spin until then
            poll.unregister(self.listener)
        elif (name := read_notification(self.listener)) is not None:
            self.forbidden = name
            raise LimitPassedError("forbidden")

    def _hear_grader(self, control: socket.socket) -> None:
        request, _ = _receive(control)
        if not request:
            os._exit(0)  # the grader is gone; the program dies with this process
        if request.get("run") == self.number:
            raise LimitPassedError(request["limit"])

    def _look(self) -> None:
        """What only namespaces enforce by themselves."""
        if len(os.listdir(f"/proc/{self.pid}/task")) > self.limits["threads"]:
            raise LimitPassedError("threads")
        num_bytes, num_files = workspace.usage(self.world.workspace)
        if num_bytes > self.limits["disk_mb"] << 20 or num_files > workspace.MAX_FILES:
            raise LimitPassedError("disk")

    def _waited_s(self, process: int) -> float:
        """Seconds in which the program could have run and got no processor."""
        try:
            information = _read(f"self/fdinfo/{process}", self.world.proc)
            pid = next(line.split()[1] for line in information.splitlines() if line.startswith("Pid:"))
            return int(_read(f"{pid}/schedstat", self.world.proc).split()[1]) / 1e9
        except (OSError, StopIteration, IndexError):  # a kernel without these statistics
            return 0.0

    def _cpu_s(self) -> float:
        """CPU time of the process and all of its threads: clock_getcpuclockid(3) of another process."""
        return time.clock_gettime(~self.pid << 3 | 2)


def _read(path: str, folder: int) -> str:
    with open(os.open(path, os.O_RDONLY, dir_fd=folder)) as file:
        return file.read()


def _send(control: socket.socket, message: dict[str, Any]) -> None:
    control.send(json.dumps(message).encode())


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message with its descriptors; an empty one when the grader has gone."""
    data, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, NUM_GIVEN)
    return (json.loads(data) if data else {}), descriptors


if __name__ == "__main__":
    main()
