"""One program from its start to its end, as the trusted side sees it: bytes from two pipes, and the zygote's word.

The program writes what it likes into both pipes. How it ended, what it used and which limit it passed come from the
zygote and from the clock here, never from the program.
"""

import json
import os
import select
import time
from collections.abc import Mapping
from typing import Any

from rewards.sandbox_child import LENGTH, REPLY
from rewards.sandbox_program import SandboxLimits
from rewards.sandbox_worker import Zygote, ZygoteDiedError, memory_file

_CHUNK = 1 << 16
_PATIENCE_S = 10.0  # for the zygote to end a program: it has nothing else to do
Reply = tuple[int, bytes, bytes]  # id of the call, kind, payload


class Execution:
    """A running program. Not for several threads at once.

    Raises:
        ZygoteDiedError: here and from every method: the zygote is gone, and the program with it.
    """

    def __init__(self, zygote: Zygote, code: str, stdin: str, limits: SandboxLimits, *, script: bool) -> None:
        self._zygote, self._limits = zygote, limits
        self._stdout, self._replies = bytearray(), bytearray()
        self._calls = bytearray()  # what is still to be written
        self.limit = ""  # the limit that this side saw passed
        self.ending: Mapping[str, Any] | None = None  # the zygote's account of it
        self._num_printed = 0
        self._wall_left_s = limits.wall_s
        self._sources: dict[int, bytearray] = {}
        self._poll = select.poll()
        job = {"script": script, "code": code}
        self._start(json.dumps(job).encode(), stdin.encode("utf-8", "surrogatepass"))

    def _start(self, job: bytes, stdin: bytes) -> None:
        program, text = memory_file("program", job), memory_file("stdin", stdin)
        stdout, stdout_end = os.pipe()
        replies, replies_end = os.pipe()
        calls_end, self._calls_pipe = os.pipe()
        given = [program, text, stdout_end, replies_end, calls_end]
        self._sources = {stdout: self._stdout, replies: self._replies}
        self._stdout_pipe, self._replies_pipe = stdout, replies
        try:
            self._run = self._zygote.start(self._limits, given)
        except ZygoteDiedError:
            self._close()
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        for descriptor in (stdout, replies, self._calls_pipe):
            os.set_blocking(descriptor, False)
        for descriptor in (stdout, replies, self._zygote.control.fileno()):
            self._poll.register(descriptor, select.POLLIN)

    @property
    def ended(self) -> bool:
        return self.ending is not None

    def call(self, number: int, function: str, arguments: bytes) -> None:
        """Send a call; ``wait_reply`` waits for what comes of it."""
        body = json.dumps({"id": number, "function": function, "arguments": arguments.decode("ascii")}).encode()
        self._calls += LENGTH.pack(len(body)) + body
        self._poll.register(self._calls_pipe, select.POLLOUT)

    def wait_reply(self) -> Reply | None:
        """The next reply; None when the program has ended, or was ended, without one."""
        while (reply := self._next_reply()) is None and not self.ended:
            self._advance()
        return reply or self._next_reply()

    def wait_end(self) -> None:
        """A script's whole run."""
        while not self.ended:
            self._advance()

    def stop(self, limit: str = "") -> None:
        """End the program, if it has not ended by itself, and learn what it used."""
        self.limit = self.limit or limit
        if not self.ended:
            self._zygote.kill_program(self._run, self.limit)
            self._hear_ending()

    def usage(self) -> tuple[float, float, float]:
        """CPU seconds, wall seconds and the highest resident MiB; before the end, only wall time is known."""
        ending = self.ending or {"wall_s": self._limits.wall_s - self._wall_left_s}
        return ending.get("cpu_s", 0.0), ending.get("wall_s", 0.0), ending.get("peak_memory_mb", 0.0)

    def take_stdout(self) -> str:
        """What was printed since the last time."""
        too_many = max(0, self._num_printed - self._limits.output_bytes)
        text = bytes(self._stdout[: len(self._stdout) - too_many]).decode("utf-8", "replace")
        self._stdout.clear()
        return text

    def _advance(self) -> None:
        """Wait for one event and take it in; wall time runs only meanwhile."""
        start = time.monotonic()
        ready = dict(self._poll.poll(max(0.0, self._wall_left_s) * 1000))
        self._wall_left_s -= time.monotonic() - start
        if not ready and self._wall_left_s <= 0:
            self.stop("wall")
            return
        if self._calls_pipe in ready:
            self._write_calls()
        for descriptor in self._sources.keys() & ready.keys():
            if descriptor in self._sources:  # what the one brought may have ended all
                self._read(descriptor)
        if not self.ended and self._zygote.control.fileno() in ready:
            self._hear_ending()

    def _write_calls(self) -> None:
        try:
            del self._calls[: os.write(self._calls_pipe, self._calls)]
        except BrokenPipeError:  # the program closed its end: its own doing, and no reply will come of it
            self._calls.clear()
        if not self._calls:
            self._poll.unregister(self._calls_pipe)

    def _read(self, descriptor: int) -> bool:
        """Whether there may be more."""
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._drop(descriptor)
            return False
        self._sources[descriptor] += chunk
        if descriptor == self._stdout_pipe:
            self._num_printed += len(chunk)
        too_much = self._num_printed > self._limits.output_bytes
        if too_much or len(self._replies) > self._limits.output_bytes + REPLY.size + _CHUNK:
            self._drop(descriptor)
            self.stop("output")
            return False
        return True

    def _drop(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._sources[descriptor]
        os.close(descriptor)

    def _next_reply(self) -> Reply | None:
        if len(self._replies) < REPLY.size:
            return None
        length, number, kind = REPLY.unpack_from(self._replies)
        if length > self._limits.output_bytes:
            self.stop("output")
            return None
        if len(self._replies) < REPLY.size + length:
            return None
        payload = bytes(self._replies[REPLY.size : REPLY.size + length])
        del self._replies[: REPLY.size + length]
        return number, kind, payload

    def _hear_ending(self) -> None:
        """After it no process is left that could write, so what the pipes hold is all."""
        self.ending = {}
        try:
            self.ending = self._zygote.hear_ending(self._run, _PATIENCE_S)
            for descriptor in list(self._sources):
                while descriptor in self._sources and self._read(descriptor):
                    pass
        finally:
            self._close()

    def _close(self) -> None:
        for descriptor in (*self._sources, self._calls_pipe):
            os.close(descriptor)
        self._sources.clear()
        self._calls_pipe = -1
