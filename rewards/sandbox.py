"""Runs Python that nobody trusts, in milliseconds, without Docker and without root.

A program is forked from a zygote, a clean process apart from this one, and confined by the kernel before its first line
runs (docs/sandbox.md). What it is to be compared with stays here: only code and inputs go in, and only bytes come out.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rewards.arguments import check_whole
from rewards.sandbox_execution import Execution
from rewards.sandbox_outcome import failure, outcome_of_call, outcome_of_script
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits, SandboxUnavailableError
from rewards.sandbox_values import encode
from rewards.sandbox_worker import Zygote, ZygoteDiedError

__all__ = ["Outcome", "RunStatus", "Sandbox", "SandboxLimits", "SandboxUnavailableError", "Session"]

_TIERS = (1, 2)
_ATTEMPTS = 3  # for a run whose zygote died or whose confinement failed, through no fault of the program
_FIX = (
    "Allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0) or use a kernel with Landlock "
    "(5.13 or later, lsm=landlock), on x86_64 or aarch64"
)


class Sandbox:
    """Up to ``num_workers`` programs at a time; call it from as many threads, further callers wait their turn.

    >>> with Sandbox() as sandbox:
    ...     sandbox.run("print(int(input()) + 1)", stdin="41").stdout
    '42\\n'

    Raises:
        ValueError: ``num_workers`` is less than 1, or ``tier`` is none of 1, 2 and None.
        SandboxUnavailableError: this machine cannot confine programs, or not in the tier that was asked for.
    """

    def __init__(self, *, num_workers: int = 1, tier: int | None = None) -> None:
        """``tier``: 1 needs namespaces; 2 does with Landlock and seccomp; None takes the best there is."""
        check_whole("num_workers", num_workers, 1)
        if tier is not None and tier not in _TIERS:
            raise ValueError(f"tier = {tier!r}: 1, 2 or None (the best there is) are allowed")
        self._free: list[Zygote | None] = [None] * num_workers  # None: to be started when it is needed
        self._started: set[Zygote] = set()
        self._freed = threading.Condition()
        self._closed = False
        self._tier, self._reason, first = _best_zygote(_TIERS if tier is None else (tier,))
        self._started.add(first)
        self._free[-1] = first

    @property
    def tier(self) -> int:
        return self._tier

    @property
    def reason(self) -> str:
        """Why this is not tier 1, or not all of it, in one line; empty where there is nothing to say."""
        return self._reason

    @property
    def pids(self) -> list[int]:
        """Process ids of the zygotes' launchers."""
        with self._freed:
            return [zygote.process.pid for zygote in self._started if zygote.alive]

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> Outcome:
        """Run a script to its end, with ``stdin`` as its standard input. Never raises on any program."""
        limits = limits or SandboxLimits()

        def execute(zygote: Zygote) -> Outcome:
            execution = Execution(zygote, code, stdin, limits, script=True)
            execution.wait_end()
            return outcome_of_script(execution, limits)

        return self._attempt(execute)

    def call(
        self,
        code: str,
        function: str,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None = None,
        *,
        limits: SandboxLimits | None = None,
    ) -> Outcome:
        """Define, then call once. ``function`` is a name or, for a class that takes no arguments, ``Class.method``.

        Never raises on any program.

        Raises:
            ValueError: an argument is not of builtin types.
        """
        limits = limits or SandboxLimits()
        arguments = _encode_arguments(args, kwargs)

        def execute(zygote: Zygote) -> Outcome:
            execution = Execution(zygote, code, "", limits, script=False)
            execution.call(1, function, arguments)
            reply = execution.wait_reply()
            execution.stop()
            return outcome_of_call(execution, limits, 1, reply)

        return self._attempt(execute)

    @contextmanager
    def session(self, code: str, *, limits: SandboxLimits | None = None) -> Iterator["Session"]:
        """One running program to call as often as wanted; ends with the ``with`` block. Holds one worker meanwhile."""
        limits = limits or SandboxLimits()
        try:
            zygote = self._take()
        except ZygoteDiedError as error:
            yield Session(None, code, limits, str(error))
            return
        try:
            session = Session(zygote, code, limits)
            try:
                yield session
            finally:
                session.close()
        finally:
            self._give_back(zygote)

    def close(self) -> None:
        """End and reap every process, also amid a run, which then is a sandbox failure; idempotent."""
        with self._freed:
            self._closed = True
            idle = {zygote for zygote in self._free if zygote is not None}
            busy = self._started - idle
            self._freed.notify_all()
        for zygote in busy:
            zygote.kill()  # its caller learns of it, and reaps
        for zygote in idle:
            zygote.end()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempt(self, execute: Callable[[Zygote], Outcome]) -> Outcome:
        """A program may be run again: nothing that it does outlives it."""
        for _ in range(_ATTEMPTS):
            try:
                with self._zygote() as zygote:
                    outcome = execute(zygote)
            except ZygoteDiedError as error:
                outcome = failure(str(error))
            if outcome.status is not RunStatus.SANDBOX_FAILURE or self._closed:
                break
        return outcome

    @contextmanager
    def _zygote(self) -> Iterator[Zygote]:
        zygote = self._take()
        try:
            yield zygote
        finally:
            self._give_back(zygote)

    def _take(self) -> Zygote:
        with self._freed:
            self._freed.wait_for(lambda: self._free or self._closed)
            if self._closed:
                raise ZygoteDiedError("the sandbox is closed")
            zygote = self._free.pop()
        if zygote is not None and zygote.alive:
            return zygote
        try:
            return self._start(zygote)
        except BaseException:
            self._give_back(None)
            raise

    def _start(self, dead: Zygote | None) -> Zygote:
        try:
            zygote = Zygote(self._tier)
        except SandboxUnavailableError as error:  # it was available a moment ago
            raise ZygoteDiedError(f"no further zygote could start: {error}") from None
        with self._freed:
            self._started -= {dead}
            self._started.add(zygote)
        return zygote

    def _give_back(self, zygote: Zygote | None) -> None:
        if zygote is not None and (self._closed or zygote.busy):  # busy: its caller was interrupted
            zygote.end()
        with self._freed:
            self._free.append(zygote)
            self._freed.notify()


class Session:
    """Calls to one running program. Not for several threads at once; ``Sandbox.session`` makes it."""

    def __init__(self, zygote: Zygote | None, code: str, limits: SandboxLimits, failed: str = "") -> None:
        self._limits = limits
        self._num_calls = 0
        self._failed = failed
        if zygote is None:
            return
        try:
            self._execution = Execution(zygote, code, "", limits, script=False)
        except ZygoteDiedError as error:
            self._failed = str(error)

    def call(self, function: str, args: Sequence[object], kwargs: Mapping[str, object] | None = None) -> Outcome:
        """Call a function of the program, as ``Sandbox.call`` does. After the program's end, says how it ended.

        Raises:
            ValueError: an argument is not of builtin types.
        """
        arguments = _encode_arguments(args, kwargs)
        if self._failed:
            return failure(self._failed)
        self._num_calls += 1
        try:
            return self._call(function, arguments)
        except ZygoteDiedError as error:
            self._failed = str(error)
            return failure(self._failed)

    def _call(self, function: str, arguments: bytes) -> Outcome:
        reply = None
        if not self._execution.ended:
            self._execution.call(self._num_calls, function, arguments)
            reply = self._execution.wait_reply()
        if reply is not None and reply[0] != self._num_calls:  # of its definition, or forged: what follows is neither's
            self._execution.stop("reply")
        return outcome_of_call(self._execution, self._limits, self._num_calls, reply)

    def close(self) -> None:
        """End the program; idempotent."""
        if self._failed:
            return
        try:
            self._execution.stop()
        except ZygoteDiedError as error:
            self._failed = str(error)


def _encode_arguments(args: Sequence[object], kwargs: Mapping[str, object] | None) -> bytes:
    return encode((list(args), dict(kwargs or {})))


def _best_zygote(tiers: Sequence[int]) -> tuple[int, str, Zygote]:
    """The first tier that runs a program, and why it is none before it."""
    reasons = []
    for tier in tiers:
        try:
            zygote = Zygote(tier)
            problem = _try_out(zygote)
        except (SandboxUnavailableError, ZygoteDiedError) as error:
            problem = str(error)
        if not problem:
            if tier == 1 and not zygote.landlock_abi:
                reasons.append("tier 1 without Landlock, which the kernel lacks")
            return tier, "; ".join(reasons), zygote
        reasons.append(f"tier {tier}: {problem}")
    raise SandboxUnavailableError(f"no program can be confined here. {'; '.join(reasons)}. {_FIX}")


def _try_out(zygote: Zygote) -> str:
    limits = SandboxLimits()
    execution = Execution(zygote, "print(6 * 7)", "", limits, script=True)
    execution.wait_end()
    outcome = outcome_of_script(execution, limits)
    if outcome.stdout == "42\n":
        return ""
    zygote.end()
    return outcome.error or f"a first program ended with {outcome.status}"
