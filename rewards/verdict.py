"""What a verifier says of one answer, and how a verifier looks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

Scope = Literal["sample", "group", "batch"]
Placement = Literal["inline", "pool", "service"]


class Status(StrEnum):
    """How a verdict came about. ``harness_error`` and ``unscored`` carry no score: such an answer leaves its group."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"  # no answer was found where one belongs: counts as wrong
    TIMEOUT = "timeout"  # the model's own doing ran past its limit: counts as wrong
    HARNESS_ERROR = "harness_error"  # the verifier failed; says nothing about the answer
    UNSCORED = "unscored"  # the function declined to score; says nothing about the answer either

    @property
    def has_score(self) -> bool:
        return self not in (Status.HARNESS_ERROR, Status.UNSCORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verifier's judgement of one answer.

    >>> Verdict(score=1.0, status=Status.CORRECT, extracted="42").score
    1.0

    Raises:
        ValueError: the score is not finite, is missing from a status that has one, or present in one that has none.
    """

    score: float | None
    status: Status
    extracted: str | None = None  # what was read as the answer, canonical where the verifier has a canonical form
    reason: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if (self.score is not None) != self.status.has_score:
            raise ValueError(f"score {self.score!r} does not go with status {self.status.value!r}")
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"score must be finite, got {self.score!r}")


def failed(reason: str) -> Verdict:
    """No score: the verifier, or what it was given beside the answer, is at fault."""
    return Verdict(score=None, status=Status.HARNESS_ERROR, reason=reason)


def unparsed(reason: str) -> Verdict:
    """Score 0: no answer was found where one belongs."""
    return Verdict(score=0.0, status=Status.UNPARSED, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a verifier may know beside the answer's text: the problem, the reference, the dataset's other columns.

    ``prompt`` is the problem as the model saw it, template and all, and ``completion_ids`` are the tokens of the answer
    that is judged; both are empty where nobody knows them.
    """

    text: str
    reference: str
    columns: Mapping[str, object] = field(default_factory=dict)
    prompt: str = ""
    completion_ids: Sequence[int] = ()


class Verifier(Protocol):
    """Judges answers. ``name`` labels its metrics.

    Attributes:
        scope: "sample" judges each answer by itself; "group" needs all answers to one problem at once; "batch" all
            answers of a step.
        placement: where its work runs. "inline": in the calling thread, because it is quick and cannot hang; "pool":
            in killable worker processes; "service": waits on something remote, many at once.
    """

    name: str
    scope: Scope
    placement: Placement

    def check_reference(self, reference: str) -> str | None:
        """None where the reference can be judged against, else why not, in one line."""
        ...

    def verify(self, completion: str, question: Question) -> Verdict:
        """Judge the text of one completion. Never raises on any text. Callable from many threads at once."""
        ...

    def close(self) -> None:
        """End any worker process; idempotent."""
        ...


class JointVerifier(Verifier, Protocol):
    """A verifier whose scope is "group" or "batch"."""

    def verify_all(self, completions: Sequence[str], questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per completion, in order. Never raises on any text."""
        ...
