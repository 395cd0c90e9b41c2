"""The trusted side of one zygote: starts it, hands it programs, ends it."""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rewards.sandbox_program import SandboxLimits, SandboxUnavailableError
from rewards.sandbox_workspace import empty

_START_S = 120.0  # wall seconds for a zygote to start, on a machine under load
_MESSAGE_BYTES = 1 << 12
_REMOVALS, _REMOVAL_PAUSE_S = 50, 0.02
_ZYGOTE = Path(__file__).with_name("sandbox_zygote.py")
# A fixed hash seed, so that a program that prints a set prints the same in every zygote; it is why -I, which would
# ignore the variable, is spelled out as its other parts. The zygote clears the variable. -S: see add_packages.
_COMMAND = ("-s", "-S", "-P", "-B", "-X", "utf8", str(_ZYGOTE))
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}


class ZygoteDiedError(Exception):
    """The zygote ended, was killed or does not answer: says nothing about the program that it ran."""


class Zygote:
    """One launcher with its zygote, which runs one program at a time.

    Raises:
        SandboxUnavailableError: the machine does not offer this tier.
        ZygoteDiedError: it ended while starting, for another reason.
    """

    def __init__(self, tier: int) -> None:
        self.owner = os.getpid()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        workspace = tempfile.mkdtemp(prefix="grpo-sandbox-") if tier == 2 else ""
        try:
            self.process = _launch(theirs, tier, workspace)
        except OSError as error:
            self.control.close()
            _remove(workspace)
            raise SandboxUnavailableError(f"no zygote can be started: {error}") from None
        self.end = weakref.finalize(self, _end, self.process, self.control, workspace, self.owner)  # also at exit
        self._num_runs = 0
        self.busy = False  # with a run whose ending nobody has heard
        greeting = self.hear(_START_S)
        self.landlock_abi = int(greeting.get("landlock", 0))
        if "unavailable" in greeting:
            self.end()
            raise SandboxUnavailableError(greeting["unavailable"])

    @property
    def alive(self) -> bool:
        return self.end.alive and self.owner == os.getpid()

    def kill(self) -> None:
        """At once, from any thread: whoever waits for a message, and owns the descriptors, learns of it and reaps."""
        if self.alive and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def start(self, limits: SandboxLimits, given: list[int]) -> int:
        """Have a program forked that gets the descriptors; returns the run's number.

        Raises:
            ZygoteDiedError: it is gone.
        """
        self._num_runs += 1
        self.busy = True
        request = {"op": "run", "run": self._num_runs, "limits": asdict(limits)}
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], given)
        except OSError:
            raise self._died() from None
        return self._num_runs

    def kill_program(self, run: int, limit: str) -> None:
        """Ask for the run's end, because of a limit or with it empty; its ending comes as for every run."""
        with contextlib.suppress(OSError):  # a zygote that is gone is noticed by who waits for the ending
            self.control.send(json.dumps({"op": "kill", "run": run, "limit": limit}).encode())

    def hear_ending(self, run: int, patience_s: float) -> Mapping[str, Any]:
        """What the zygote says of the run that has ended.

        Raises:
            ZygoteDiedError: nothing came in time, or nothing will come.
        """
        message = self.hear(patience_s)
        if message.get("run") not in (None, run):
            self.end()
            raise ZygoteDiedError("the zygote spoke of another run")
        self.busy = False
        return message

    def hear(self, patience_s: float) -> Mapping[str, Any]:
        """The zygote's next message.

        Raises:
            ZygoteDiedError: none came in time, or none will come.
        """
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        deadline = time.monotonic() + patience_s
        while not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if time.monotonic() >= deadline:
                self.end()
                raise ZygoteDiedError(f"the zygote did not answer within {patience_s:.0f} s")
        try:
            data = self.control.recv(_MESSAGE_BYTES)
        except OSError:
            data = b""
        if not data:
            raise self._died()
        message: Mapping[str, Any] = json.loads(data)
        return message

    def _died(self) -> ZygoteDiedError:
        self.end()
        return ZygoteDiedError(f"the zygote ended (code {self.process.returncode})")


def _launch(control: socket.socket, tier: int, workspace: str) -> "subprocess.Popen[bytes]":
    python = getattr(sys, "_base_executable", None) or sys.executable  # without a virtual environment's packages
    with control:
        return subprocess.Popen(
            [python, *_COMMAND, str(control.fileno()), str(tier), workspace],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            pass_fds=(control.fileno(),),
            start_new_session=True,  # an interrupt at the keyboard is the owner's to handle
        )


def memory_file(name: str, data: bytes) -> int:
    """A descriptor that holds the data and lets nobody change it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def _end(process: "subprocess.Popen[bytes]", control: socket.socket, workspace: str, owner: int) -> None:
    """Kill, reap, close. In a fork of the owner, only close: the processes are not its to kill."""
    control.close()
    if owner != os.getpid():
        return
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _remove(workspace)


def _remove(folder: str) -> None:
    """The program, which dies with its zygote but not at the same instant, may write for a moment more."""
    for _ in range(_REMOVALS if folder else 0):
        try:
            empty(folder)
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_REMOVAL_PAUSE_S)
