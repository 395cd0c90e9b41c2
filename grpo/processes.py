"""Processes of this program's own: started clean, heard, told why they ended, and never left behind.

A child is ``python -m MODULE DESCRIPTOR PARENT``. It speaks with its parent over one connection (pickled objects, both
ways), writes all else into a log of its own, does not hear the keyboard, and is killed by the kernel when its parent is
gone.
"""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_LAUNCHERS = ("RANK", "LOCAL_", "GROUP_", "ROLE_", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_", "ACCELERATE_")
_GRACE_S = 5.0
_TIDYING_S = 0.5
_LAST_WORDS = 2000  # characters of a log's end that an obituary quotes
_LOG_TAIL = 1 << 16  # bytes


class ChildDiedError(Exception):
    """A child ended before it said what was waited for; the text is its obituary."""


class Child:
    """A running child and the connection to it. To be started from the main thread: its end is tied to that thread's.

    Args:
        name: what messages call it, such as ``learner rank 1``.
        module: what it runs; see ``parent_connection``.
        log: file that its standard output and error are added to.
        environment: variables that it has beyond this process'.
        patience_s: seconds for which it may leave its connection unread while it is sent something; absent: for ever.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        patience_s: float | None = None,
    ) -> None:
        self.name, self.log, self._patience_s = name, log, patience_s
        ours, theirs = socket.socketpair()
        if patience_s is not None:  # a write that moves nothing for so long then fails
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(patience_s))
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = log.stat().st_size if log.exists() else 0
        with theirs, log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**_own_environment(), **(environment or {})},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.connection: Connection[Any, Any] = Connection(ours.detach())

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def send(self, message: object) -> None:
        """Raises ChildDiedError where nobody is left to hear it; one that has stopped reading is killed first."""
        try:
            self.connection.send(message)
        except BlockingIOError:  # half a message may have gone, after which no other can follow
            self.kill()
            raise ChildDiedError(
                f"{self.name} (process {self.pid}) read nothing of what it was sent for {self._patience_s:.0f} s and "
                "was killed"
            ) from None
        except (BrokenPipeError, ConnectionResetError, OSError):
            raise ChildDiedError(self.obituary()) from None

    def receive(self, patience_s: float | None = None) -> Any:
        """The next message.

        Raises:
            ChildDiedError: it ended without one.
            TimeoutError: none came in ``patience_s`` seconds.
        """
        try:
            if not self.connection.poll(patience_s):
                raise TimeoutError(f"{self.name} (process {self.pid}) said nothing for {patience_s:.0f} s")
            return self.connection.recv()
        except (EOFError, ConnectionResetError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise ChildDiedError(self.obituary()) from None

    def obituary(self) -> str:
        """Who it was, how it ended, and the end of what it wrote."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_S)
        code = self.process.returncode
        if code is None:
            how = "closed its connection and goes on"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        words = self._last_words()
        return f"{self.name} (process {self.pid}) {how}" + (f". Its last words ({self.log}):\n{words}" if words else "")

    def end(self, grace_s: float = _GRACE_S) -> None:
        """Close the connection, which asks it to end; then kill what goes on, be it what it started. Idempotent."""
        self.connection.close()
        deadline = time.monotonic() + grace_s
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """At once, with all that it started itself; those of them that tidy up after it get a moment to do so."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + _TIDYING_S
        with contextlib.suppress(ProcessLookupError):  # nobody is left of its session
            while time.monotonic() < deadline:
                os.killpg(self.process.pid, 0)
                time.sleep(0.01)
            os.killpg(self.process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        """The tracebacks in the log of this start, the cause first, or else its last lines."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - _LOG_TAIL))
            text = file.read().decode(errors="replace").strip()
            return _shortened(text[max(0, text.find("Traceback (most recent call last)")) :])
        return ""


def _shortened(text: str) -> str:
    if len(text) <= _LAST_WORDS:
        return text
    half = _LAST_WORDS // 2
    return f"{text[:half]}\n...\n{text[-half:]}" if text.startswith("Traceback") else text[-_LAST_WORDS:]


def _own_environment() -> dict[str, str]:
    """Without what a launcher (torchrun, accelerate) has told this process about itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}


def _timeval(seconds: float) -> bytes:
    """As the kernel reads it: whole seconds and microseconds."""
    whole = int(seconds)
    return struct.pack("@ll", whole, int((seconds - whole) * 1e6))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, process ``parent``, is gone; at once where it is already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def parent_connection() -> "Connection[Any, Any]":
    """The child's end: to be called first in its ``__main__``. Ends the process when its parent is already gone."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent hears them
    die_with(int(sys.argv[2]))
    return Connection(int(sys.argv[1]))
