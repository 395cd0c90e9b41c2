"""Somebody's reward function as a verifier: in killable processes, or inline where it says that it is quick."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import entry_points
from typing import Any

from rewards.pool import Pool
from rewards.reward_function import RewardFunction
from rewards.verdict import Placement, Question, Scope, Status, Verdict, failed
from rewards.worker import Limits, WorkerDiedError, WorkerLimitError

_CHILD = "rewards.plugin_child"
_GROUP = "grpo.rewards"
_NO_CPU_LIMIT = 1e6  # seconds; what waits on something remote is bounded by its deadline


class PluginVerifier:
    """Runs the function at ``fn`` on answers; what it does wrong is a verdict without a score, never a silent one.

    The function may follow this project's convention or that of TRL, verl, OpenRLHF or slime
    (``rewards.conventions``). A process that hangs, dies or leaks is killed, reaped and replaced.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
    ...     _ = file.write("def brevity(completion, problem): return 1 / len(completion)")
    ...     file.flush()
    ...     verifier = PluginVerifier(f"{file.name}:brevity")
    >>> verifier.verify("four", Question(text="", reference="")).score
    0.25
    >>> verifier.close()
    """

    def __init__(
        self,
        fn: str,
        *,
        args: Mapping[str, Any] | None = None,
        name: str | None = None,
        num_workers: int = 1,
        cpu_s: float = 10.0,
        deadline_s: float = 60.0,
        memory_mb: int = 1024,
        concurrency: int = 8,
    ) -> None:
        """
        Args:
            fn: ``FILE.py:FUNCTION`` or ``package.module:FUNCTION``.
            args: keyword arguments that every call gets.
            name: labels its metrics; absent: the function's name.
            num_workers: processes of a function placed in the pool.
            cpu_s: CPU seconds that one call may take in the pool, be it for an answer or a group.
            deadline_s: wall seconds of one call; behind ``cpu_s`` in the pool, alone in a service.
            memory_mb: MiB that a process may take beyond what it has when the function is imported.
            concurrency: processes of a function that waits on a service.

        Raises:
            ValueError: the function cannot be found, imported, recognized, or does not take ``args``.
        """
        self.fn = fn
        self.name = name or fn.rpartition(":")[2]
        arguments = (fn, json.dumps(dict(args or {})))
        limits = Limits(cpu_s=cpu_s, wall_s=deadline_s, memory_bytes=memory_mb << 20, on_top=True, trusted=True)
        self._pool = Pool(_CHILD, limits, num_workers, arguments)
        try:
            greeting = self._pool.greeting()
        except WorkerDiedError as error:
            raise ValueError(str(error).partition("could not start: ")[2] or f"fn = {fn!r}: {error}") from None
        self.scope: Scope = greeting["scope"]
        self.placement: Placement = greeting["placement"]
        self.convention: str = greeting["convention"]
        self._inline = RewardFunction(fn, args) if self.placement == "inline" else None
        if self.placement == "service":
            self._pool.close()
            self._pool = Pool(_CHILD, replace(limits, cpu_s=_NO_CPU_LIMIT), concurrency, arguments)

    @property
    def pool(self) -> Pool:
        return self._pool

    def check_reference(self, reference: str) -> str | None:
        """Every reference will do: what the function needs of it is not known."""
        return None

    def verify(self, completion: str, question: Question) -> Verdict:
        return self.verify_all([completion], [question])[0]

    def verify_all(self, completions: Sequence[str], questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per answer; where the call as a whole fails, each says so."""
        started = time.perf_counter()
        verdicts = self._verdicts(completions, questions)
        seconds = (time.perf_counter() - started) / max(1, len(verdicts))
        return [replace(verdict, seconds=seconds) for verdict in verdicts]

    def close(self) -> None:
        """End and reap the processes; idempotent."""
        self._pool.close()

    def _verdicts(self, completions: Sequence[str], questions: Sequence[Question]) -> list[Verdict]:
        if self._inline is not None:
            try:
                return self._inline(completions, questions)
            except MemoryError:
                return [failed(f"{self.fn} ran out of memory")] * len(completions)
        request = {"completions": list(completions), "questions": [asdict(question) for question in questions]}
        try:
            reply = self._pool.ask(request)
        except (WorkerLimitError, WorkerDiedError) as error:
            return [failed(f"{self.fn}: {error}")] * len(completions)
        return [Verdict(**{**verdict, "status": Status(verdict["status"])}) for verdict in reply["verdicts"]]


def installed_rewards() -> dict[str, str]:
    """Reward functions that installed packages offer by entry point, group ``grpo.rewards``: name to ``fn``."""
    return {point.name: point.value for point in entry_points(group=_GROUP)}
