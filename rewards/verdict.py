"""What a verifier says of one answer, and how a verifier looks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Status(StrEnum):
    """How a verdict came about. Only ``harness_error`` carries no score."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"  # no answer was found where one belongs: counts as wrong
    TIMEOUT = "timeout"  # the model's own doing ran past its limit: counts as wrong
    HARNESS_ERROR = "harness_error"  # the verifier failed; says nothing about the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verifier's judgement of one answer.

    >>> Verdict(score=1.0, status=Status.CORRECT, extracted="42").score
    1.0

    Raises:
        ValueError: the score is not finite, or is present exactly when the status is ``harness_error``.
    """

    score: float | None
    status: Status
    extracted: str | None = None  # what was read as the answer, canonical where the verifier has a canonical form
    reason: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if (self.score is None) != (self.status is Status.HARNESS_ERROR):
            raise ValueError(f"score {self.score!r} does not go with status {self.status.value!r}")
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"score must be finite, got {self.score!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a verifier may know of the problem: its text, the reference, and the dataset's other columns."""

    text: str
    reference: str
    columns: Mapping[str, object] = field(default_factory=dict)


class Verifier(Protocol):
    """Judges one answer at a time. ``name`` labels its metrics."""

    name: str

    def check_reference(self, reference: str) -> str | None:
        """None where the reference can be judged against, else why not, in one line."""
        ...

    def verify(self, completion: str, question: Question) -> Verdict:
        """Judge the text of one completion. Never raises on any text."""
        ...

    def close(self) -> None:
        """End any worker process; idempotent."""
        ...
