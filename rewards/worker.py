"""A killable worker: a warm child process that answers one JSON request at a time, within limits.

Both ends of the pipe are here. Frames are four bytes of length, then JSON. The child is a fresh interpreter, never a
fork of the caller, so it holds none of its memory, threads or descriptors.

Why a process: code that must not run on (a symbolic simplification, say) cannot be stopped from within. An alarm
signal waits for the interpreter, works in the main thread only and takes the caller's signals. The child has its
own timer of CPU time, whose signal keeps its default action: the kernel ends the process, in the middle of C code
too. CPU time and not wall time, so that a loaded machine gives the same verdict.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_HEADER = struct.Struct(">I")
_MAX_FRAME = 1 << 20  # bytes
_START_S = 120.0  # wall seconds to import what the worker needs, on a machine under load
_ORPHAN_CHECK_S = 5.0
_PR_SET_CHILD_SUBREAPER = 36
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")  # nothing else: no tokens, no keys

Message = Mapping[str, Any]


class WorkerLimitError(Exception):
    """The request ran past its CPU time or wall time; the process is gone, the next request gets a fresh one."""


class WorkerDiedError(Exception):
    """The process ended, or could not start, for a reason other than its limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may use. ``wall_s`` is only the backstop of ``cpu_s``: sleep and stopped processes.

    ``memory_bytes`` bounds the address space of the whole process; with ``on_top`` that beyond what the process has
    when it is ready, for modules that import who knows what. ``trusted`` children are a user's own code: they may write
    files, and see the environment (a judge's keys).
    """

    cpu_s: float = 4.0
    wall_s: float = 60.0
    memory_bytes: int = 1 << 30
    on_top: bool = False
    trusted: bool = False


class Worker:
    """Owns at most one child running ``python -m module``. Started by the first request; safe from any thread.

    The child ends with its owner in every case: ``close``, garbage collection, exit, and, as its end of the pipe
    closes, when the owner is killed.
    """

    def __init__(self, module: str, limits: Limits, arguments: tuple[str, ...] = ()) -> None:
        """``arguments``: what the module's process gets on its command line after the limits."""
        self.module = module
        self.limits = limits
        self.num_replaced = 0  # children that died or were killed past a limit
        self._arguments = arguments
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def ask(self, request: Message) -> Message:
        """Send one request and wait for its reply.

        Raises:
            WorkerLimitError: the request ran past a limit.
            WorkerDiedError: the process ended otherwise, or could not start.
        """
        with self._lock:
            child = self._living()
            answered = False
            try:
                reply = child.ask(request, self.limits.wall_s)
                answered = not reply.get("retire")
            finally:
                if not answered:  # after an interrupt too: its reply would be read as the next one's
                    self._drop()
                    self.num_replaced += 1
            return reply

    def greeting(self) -> Message:
        """What the child said when it was ready; starts one if there is none.

        Raises:
            WorkerDiedError: it could not start.
        """
        with self._lock:
            return self._living().greeting

    def _living(self) -> "_Child":
        if self._child is None or self._child.owner != os.getpid():
            self._child = _Child(self.module, self.limits, self._arguments)
        return self._child

    @property
    def pid(self) -> int | None:
        """Process id of the child, if one runs."""
        return None if self._child is None else self._child.process.pid

    def close(self) -> None:
        """End and reap the child, at once also amid a request; idempotent. A later request starts another."""
        if (child := self._child) is not None:
            child.kill()  # whoever waits for its reply, holding the lock, learns of it from the pipe
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """One process, from its start to its reaping."""

    def __init__(self, module: str, limits: Limits, arguments: tuple[str, ...]) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, json.dumps(asdict(limits)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(trusted=limits.trusted),
            start_new_session=True,  # an interrupt at the keyboard is the owner's to handle
        )
        self.end = weakref.finalize(self, _end, self.process, self.owner)  # also runs at exit
        try:
            self.greeting = self._receive(time.monotonic() + _START_S)
        except WorkerLimitError:
            raise WorkerDiedError(f"{module} did not start within {_START_S:.0f} s") from None
        if "ready" not in self.greeting:
            self.end()
            raise WorkerDiedError(f"{module} could not start: {self.greeting.get('error')}")

    def kill(self) -> None:
        """Without reaping: ``end`` does that."""
        if self.owner == os.getpid():
            _kill_group(self.process.pid)

    def ask(self, request: Message, wall_s: float) -> Message:
        deadline = time.monotonic() + wall_s
        self._send(_frame(request), deadline)
        return self._receive(deadline)

    def _send(self, data: bytes, deadline: float) -> None:
        """A stopped child reads nothing, and a pipe holds little: sending has the same deadline as the reply."""
        assert self.process.stdin is not None
        descriptor = self.process.stdin.fileno()
        os.set_blocking(descriptor, False)
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        view = memoryview(data)
        while view:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not poll.poll(remaining_s * 1000):
                self.end()
                raise WorkerLimitError("ran past its wall time")
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._ended() from None

    def _receive(self, deadline: float) -> Message:
        (length,) = _HEADER.unpack(self._read(_HEADER.size, deadline))
        if length > _MAX_FRAME:
            raise WorkerDiedError(f"a reply of {length} bytes; {_MAX_FRAME} are allowed")
        reply: Message = json.loads(self._read(length, deadline))
        return reply

    def _read(self, size: int, deadline: float) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        poll = select.poll()  # unlike select.select, also for descriptors above 1023
        poll.register(descriptor, select.POLLIN)
        received = b""
        while len(received) < size:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not poll.poll(remaining_s * 1000):
                self.end()
                raise WorkerLimitError("ran past its wall time")
            chunk = os.read(descriptor, size - len(received))
            if not chunk:
                raise self._ended()
            received += chunk
        return received

    def _ended(self) -> WorkerLimitError | WorkerDiedError:
        """Why the process closed its pipe; reaps it."""
        try:
            code = self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            code = None
        self.end()
        if code in (-signal.SIGPROF, -signal.SIGXCPU):
            return WorkerLimitError("ran past its CPU time")
        return WorkerDiedError(f"the worker process ended with code {code}")


def serve(handle: Callable[[Message], Message], *, ready: Message) -> None:
    """The child's loop: answer requests on standard input until it closes or the owner is gone.

    Standard output is taken for the replies alone; what libraries print goes nowhere.
    """
    limits = Limits(**json.loads(sys.argv[1]))
    owner = os.getppid()
    replies = os.dup(1)
    os.dup2(2, 1)
    _set_process_limits(limits)
    _write(replies, _frame(ready))
    while (request := _next_request(owner)) is not None:
        _start_clock(limits.cpu_s)
        reply = handle(request)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        _write(replies, _frame(reply))


def _set_process_limits(limits: Limits) -> None:
    if limits.trusted:  # others start no process
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    memory_bytes = limits.memory_bytes + (address_space() if limits.on_top else 0)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not limits.trusted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _start_clock(cpu_s: float) -> None:
    """The timer counts exactly; the rlimit, which counts whole seconds, stands behind it."""
    used = time.process_time()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + cpu_s) + 1, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _next_request(owner: int) -> Message | None:
    """The next request; None when the pipe has closed.

    A process that the owner forked holds a copy of the pipe's other end, so the pipe can outlive the owner: look
    now and then whether the owner is still the parent.
    """
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while not poll.poll(_ORPHAN_CHECK_S * 1000):
        if os.getppid() != owner:
            return None
    header = _read_exactly(_HEADER.size)
    if header is None:
        return None
    body = _read_exactly(_HEADER.unpack(header)[0])
    return None if body is None else json.loads(body)


def _read_exactly(size: int) -> bytes | None:
    received = b""
    while len(received) < size:
        chunk = os.read(0, size - len(received))
        if not chunk:
            return None
        received += chunk
    return received


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _frame(message: Message) -> bytes:
    body = json.dumps(message, default=_plain).encode()
    return _HEADER.pack(len(body)) + body


def _plain(value: Any) -> Any:
    """Arrays of a dataset's columns as lists, dates and the like as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _environment(*, trusted: bool) -> dict[str, str]:
    """A fixed hash seed, because the order in which sympy tries things depends on it, and verdicts must repeat."""
    kept = {name: value for name, value in os.environ.items() if trusted or name in _INHERITED}
    paths = [str(Path(__file__).resolve().parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}


def _kill_group(pid: int) -> None:
    """A child leads its own group and adopts its orphans, so that whatever it started goes with it."""
    descendants = _descendants(pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for descendant in descendants:
        with contextlib.suppress(ProcessLookupError):
            os.kill(descendant, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            for child in map(int, listing.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """Kill, reap, close the pipes. In a fork of the owner, only close: the child is not its to kill."""
    assert process.stdin is not None
    assert process.stdout is not None
    if owner == os.getpid():
        if process.returncode is None:
            _kill_group(process.pid)
        process.wait()
    process.stdin.close()
    process.stdout.close()
