"""Python as a tool of the policy: a fenced program goes in, what it prints comes back."""

import threading
import time
from dataclasses import dataclass

from rewards.sandbox import Outcome, RunStatus, Sandbox, SandboxLimits

OPEN, CLOSE = "<python>", "</python>"
MAX_OUTPUT = 512  # characters shown to the policy
_LIMITS = SandboxLimits(cpu_s=2.0, wall_s=10.0, memory_mb=256)


@dataclass(slots=True)
class ToolStats:
    """What the tool did since the last look."""

    num_calls: int = 0
    num_failed: int = 0  # the program raised, ran past a limit, or did what is forbidden
    seconds: float = 0.0  # of all calls together

    def metrics(self) -> dict[str, float]:
        return {
            "tool/num_calls": self.num_calls,
            "tool/failed": self.num_failed / max(1, self.num_calls),
            "time/tool_s": self.seconds,
        }


class PythonToolError(Exception):
    """The sandbox failed, after its own further attempts: says nothing about the program."""


class PythonTool:
    """Runs what stands between the last ``<python>`` and the ``</python>`` that ends a turn, in the sandbox.

    The turn's last token may hold more than the end of ``</python>``, a line's end most often: that is passed over.

    Every run is a program of its own: nothing is kept between calls. Callable from many threads.

    Raises:
        SandboxUnavailableError: this machine cannot confine programs.
    """

    def __init__(self, *, num_workers: int) -> None:
        self.end_of_call = CLOSE
        self._sandbox = Sandbox(num_workers=num_workers)
        self._lock = threading.Lock()
        self._stats = ToolStats()

    def reply(self, turn: str) -> str | None:
        """What the environment answers to a turn's text; None where it calls no tool.

        Raises:
            PythonToolError: the program could not be run.
        """
        before, _, _ = turn.rpartition(CLOSE)
        _, opened, code = before.rpartition(OPEN)
        if not opened:
            return None
        started = time.perf_counter()
        outcome = self._sandbox.run(code.strip() + "\n", limits=_LIMITS)
        seconds = time.perf_counter() - started
        with self._lock:
            self._stats.num_calls += 1
            self._stats.num_failed += outcome.status not in (RunStatus.FINISHED, RunStatus.SANDBOX_FAILURE)
            self._stats.seconds += seconds
        if outcome.status is RunStatus.SANDBOX_FAILURE:
            raise PythonToolError(outcome.error)
        return f"<output>{_shown(outcome)}</output>"

    def take_stats(self) -> ToolStats:
        with self._lock:
            stats, self._stats = self._stats, ToolStats()
        return stats

    def take_metrics(self) -> dict[str, float]:
        return self.take_stats().metrics()

    def close(self) -> None:
        self._sandbox.close()


def _shown(outcome: Outcome) -> str:
    """Cut, and with no opening bracket: what a program prints must not pass for a tag that the policy wrote."""
    text = outcome.stdout if outcome.status is RunStatus.FINISHED else f"{outcome.status.value}: {outcome.error}"
    text = text.strip().replace("<", "(")
    return text if len(text) <= MAX_OUTPUT else text[:MAX_OUTPUT] + "..."
