"""Runs every attack in one tier, as whoever starts it: ``python -m tests.sandbox.run_attacks TIER HOW [NAME ...]``.

HOW is ``here``, or ``http`` through a server of ours and its client.

One line of JSON for each: how it ended, whether it got through, what it got hold of, and whether the sandbox was alive
and right afterwards. A process of its own, so that the attacks can be run as an ordinary user, too.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewards.remote import RemoteSandbox
from rewards.sandbox import Outcome, RunStatus, Sandbox, SandboxLimits
from rewards.sandbox_server import SandboxServer
from tests.sandbox.attacks import ATTACKS, ESCAPED, X86_64_ONLY, Attack

WAITS = ("sleeps", "stops_itself", "waits_on_input")  # nothing but wall time ends these
QUICK = SandboxLimits(cpu_s=0.2, wall_s=30.0, memory_mb=128, disk_mb=4)
PATIENT = SandboxLimits(cpu_s=0.2, wall_s=1.0)


class Surroundings:
    """What a program might get hold of: a secret answer, an environment, files, sockets, processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer = secrets.token_hex(8)
        self.secrets = {"answer": self.answer, "environment": secrets.token_hex(8), "file": secrets.token_hex(8)}
        os.environ["SANDBOX_CANARY"] = self.secrets["environment"]
        (folder / "canary").write_text(self.secrets["file"])
        self.listeners = {
            "TCP": _bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "UDP": _bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "ABSTRACT": _bound(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + secrets.token_hex(8)),
            "DATAGRAM": _bound(socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + secrets.token_hex(8)),
            "PATH": _bound(socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "socket")),
        }
        self.before = self._files()
        self.processes: list[int] = []  # those that belong here
        self.launchers: list[int] = []

    def fill_in(self, code: str) -> str:
        names = {name: listener.getsockname() for name, listener in self.listeners.items()}
        code = code.replace("@PID@", str(os.getpid())).replace("@FOLDER@", str(self.folder))
        for name in ("TCP", "UDP"):
            code = code.replace(f"@{name}@", str(names[name][1]))
        for name in ("ABSTRACT", "DATAGRAM"):
            code = code.replace(f"@{name}@", names[name].decode().lstrip("\0"))
        return code

    def leaks(self, outcome: Outcome) -> list[str]:
        """What it got hold of, by name."""
        text = f"{outcome.stdout} {outcome.value!r} {outcome.error}"
        found = [name for name, secret in self.secrets.items() if secret in text]
        found += ["escaped"] if ESCAPED in outcome.stdout or ESCAPED in repr(outcome.value) else []
        found += [f"socket {name}" for name, listener in self.listeners.items() if _was_reached(listener)]
        return found + (["files changed"] if self._files() != self.before else [])

    def _files(self) -> list[tuple[str, int, int, int]]:
        statuses = [(path.name, path.lstat()) for path in sorted(self.folder.iterdir())]
        return [(name, status.st_mode, status.st_size, status.st_uid) for name, status in statuses]


def descendants() -> list[int]:
    """Processes that stem from this one, zombies included."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, new = set(), {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


class Here:
    """Programs run in this process' sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def ask(self, code: str, *, script: bool, limits: SandboxLimits) -> tuple[Outcome, object]:
        """How it ended, and what it gave for 6 and 7."""
        if script:
            outcome = self.sandbox.run(code, stdin="6 7", limits=limits)
            return outcome, outcome.stdout.strip()
        outcome = self.sandbox.call(code, "solve", [6, 7], limits=limits)
        return outcome, outcome.value


class OverHttp(Here):
    """The same through a server: it runs scripts only, so that a call prints what it gave."""

    def __init__(self, server: SandboxServer) -> None:
        super().__init__(server._sandbox)
        self._client = RemoteSandbox(server.url)

    def ask(self, code: str, *, script: bool, limits: SandboxLimits) -> tuple[Outcome, object]:
        outcome = self._client.run(code if script else f"{code}\nprint(solve(6, 7))", stdin="6 7", limits=limits)
        return outcome, outcome.stdout.strip()


def run(target: Here, attack: Attack, around: Surroundings) -> dict[str, Any]:
    limits = PATIENT if attack.name in WAITS else QUICK
    outcome, given = target.ask(around.fill_in(attack.code), script=attack.script, limits=limits)
    survivors = [pid for pid in descendants() if pid not in around.processes]
    _, after = target.ask("def solve(a, b): return a * b", script=False, limits=QUICK)
    return {
        "name": attack.name,
        "status": outcome.status.value,
        "error": outcome.error,
        "passed": outcome.status is RunStatus.FINISHED and bool(given == around.answer),
        "leaks": around.leaks(outcome),
        "survivors": survivors,
        "right_after": str(after) == "42" and target.sandbox.pids == around.launchers,
        "cpu_s": outcome.cpu_s,
    }


def main(tier: int, how: str, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        target: Here
        if how == "http":
            server = SandboxServer(port=0, tier=tier)
            stack.callback(server.stop)
            server.start()
            target = OverHttp(server)
        else:
            target = Here(stack.enter_context(Sandbox(tier=tier)))
        around = Surroundings(Path(folder))
        around.processes, around.launchers = descendants(), target.sandbox.pids
        for attack in _chosen(names):
            print(json.dumps(run(target, attack, around)), flush=True)


def _chosen(names: list[str]) -> Iterator[Attack]:
    for attack in ATTACKS:
        if (not names or attack.name in names) and (os.uname().machine == "x86_64" or attack.name not in X86_64_ONLY):
            yield attack


def _bound(family: int, kind: int, address: object) -> socket.socket:
    listener = socket.socket(family, kind)
    listener.bind(address)  # type: ignore[arg-type]
    listener.setblocking(False)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


def _was_reached(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_STREAM:
            listener.accept()[0].close()
        else:
            listener.recv(100)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
