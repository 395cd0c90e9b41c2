"""What verifiers of a kind share: those that answer at once, and those that have processes do the work."""

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Protocol

from rewards.verdict import Placement, Question, Scope, Verdict


class InlineVerifier:
    """Judges one answer in the calling thread, and holds nothing."""

    scope: Scope = "sample"
    placement: Placement = "inline"

    def check_reference(self, reference: str) -> str | None:
        """Every reference will do: none is read."""
        return None

    def close(self) -> None:
        """Holds no process."""


class ProcessPool(Protocol):
    """What the trainer asks of a verifier's processes."""

    @property
    def num_workers(self) -> int: ...

    @property
    def num_replaced(self) -> int: ...

    def close(self) -> None: ...


class PooledVerifier(ABC):
    """Judges one answer with the help of killable processes; subclasses say how in ``_judge``."""

    scope: Scope = "sample"
    placement: Placement = "pool"
    pool: ProcessPool

    def check_reference(self, reference: str) -> str | None:
        """Every reference will do: none is read."""
        return None

    def verify(self, completion: str, question: Question) -> Verdict:
        started = time.perf_counter()
        verdict = self._judge(completion, question)
        return replace(verdict, seconds=time.perf_counter() - started)

    def close(self) -> None:
        """End and reap the processes; idempotent."""
        self.pool.close()

    @abstractmethod
    def _judge(self, completion: str, question: Question) -> Verdict: ...
