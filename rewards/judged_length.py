"""Length rewards that depend on whether the answer is right: another verifier judges that.

``correct`` names the judging verifier; arguments that these classes do not know themselves go to it, so a recipe
stays flat: ``args: {correct: math_answer, extract: boxed, max_length: 4096, unit: tokens}``. Status, extracted text
and reason are the judge's, and an answer that it leaves without a score has none here either. These rewards hold
the judge's: use one in place of the judge, not beside it.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from rewards.arguments import check_whole
from rewards.judges import JUDGES, make_from, with_workers
from rewards.length import UnknownLengthError, check_unit, length_of
from rewards.verdict import Placement, Question, Scope, Status, Verdict, Verifier, failed


class _Judged:
    """What both share: the judge, its life, and the unit of length."""

    def __init__(self, correct: str, unit: str, num_workers: int, judge_args: dict[str, object]) -> None:
        self.unit = check_unit(unit)
        self._judge = _make_judge(correct, num_workers, judge_args)
        self.placement: Placement = self._judge.placement
        self.pool = getattr(self._judge, "pool", None)

    def check_reference(self, reference: str) -> str | None:
        """Whether the judge can judge against it."""
        return self._judge.check_reference(reference)

    def close(self) -> None:
        """End what the judge holds."""
        self._judge.close()


class CosineLengthVerifier(_Judged):
    """The cosine reward of "Demystifying Long Chain-of-Thought" (arXiv 2502.03373, section 4.2 and appendix C.1).

    With L the answer's length, at most M = ``max_length``, ``score = end + (start - end) * (1 + cos(pi * L / M)) / 2``:

    - right: from ``max_value_correct`` at length 0 down to ``min_value_correct`` at M: a short right answer is best;
    - wrong: from ``min_value_wrong`` at length 0 up to ``max_value_wrong`` at M: where it fails, it should think on.

    Names and defaults are open-r1's (``get_cosine_scaled_reward``); there the length goes on past M, and with it the
    cosine, so that an answer of twice M is as good as an empty one. Here M is its end, as in the paper, whose
    penalty for reaching it is ``exceeded`` (the paper's own values: 2, 1, -10, 0 and -10).

    >>> verifier = CosineLengthVerifier(correct="number", extract="whole", max_length=100)
    >>> verifier.verify("4" + " " * 49, Question(text="2 + 2?", reference="4")).score
    0.75
    """

    name = "cosine_length"
    scope: Scope = "sample"

    def __init__(
        self,
        *,
        correct: str,
        max_length: int,
        unit: str = "characters",
        min_value_wrong: float = -1.0,
        max_value_wrong: float = -0.5,
        min_value_correct: float = 0.5,
        max_value_correct: float = 1.0,
        exceeded: float | None = None,
        num_workers: int = 1,
        **judge_args: object,
    ) -> None:
        """``exceeded``: the score of any answer of ``max_length`` or longer; None: the cosine's end.

        ``num_workers``: processes of a judge that has some.

        Raises:
            ValueError: ``correct`` names no verifier that judges single answers, it refuses its arguments, or a
                length or value is out of range.
        """
        check_whole("max_length", max_length, 1)
        self.max_length = max_length
        self._wrong = _span("min_value_wrong", min_value_wrong, "max_value_wrong", max_value_wrong)
        self._right = _span("min_value_correct", min_value_correct, "max_value_correct", max_value_correct)[::-1]
        self.exceeded = None if exceeded is None else _finite("exceeded", exceeded)
        super().__init__(correct, unit, num_workers, judge_args)

    def verify(self, completion: str, question: Question) -> Verdict:
        verdict = self._judge.verify(completion, question)
        if not verdict.status.has_score:
            return verdict
        try:
            length = length_of(completion, question, self.unit)
        except UnknownLengthError as error:
            return replace(failed(str(error)), seconds=verdict.seconds)
        return replace(verdict, score=self._score(length, verdict.status is Status.CORRECT))

    def _score(self, length: int, right: bool) -> float:
        if self.exceeded is not None and length >= self.max_length:
            return self.exceeded
        start, end = self._right if right else self._wrong
        progress = min(length / self.max_length, 1.0)
        return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2


class GroupLengthVerifier(_Judged):
    """The length reward of Kimi k1.5 (arXiv 2501.12599, section 2.3.3), relative to the answers to the same problem.

    With ``share = 0.5 - (length - shortest) / (longest - shortest)`` over the group: a right answer scores ``share``,
    any other ``min(0, share)``; all score 0 where all are equally long. From -0.5 to 0.5, so it is meant to be
    added, with a small weight, to the reward of being right.

    >>> verifier = GroupLengthVerifier(correct="number", extract="last_number")
    >>> question = Question(text="2 + 2?", reference="4")
    >>> [verdict.score for verdict in verifier.verify_all(["4", "it is 4", "5", "I say 5"], [question] * 4)]
    [0.5, -0.5, 0.0, -0.5]
    """

    name = "group_length"
    scope: Scope = "group"

    def __init__(self, *, correct: str, unit: str = "characters", num_workers: int = 1, **judge_args: object) -> None:
        """``num_workers``: processes of a judge that has some.

        Raises:
            ValueError: ``correct`` names no verifier that judges single answers, it refuses its arguments, or
                ``unit`` is neither characters nor tokens.
        """
        super().__init__(correct, unit, num_workers, judge_args)

    def verify(self, completion: str, question: Question) -> Verdict:
        """A group of one, hence 0 unless the judge fails."""
        return self.verify_all([completion], [question])[0]

    def verify_all(self, completions: Sequence[str], questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per answer of one group, in order. An answer that the judge leaves unscored counts by length."""
        asked = list(zip(completions, questions, strict=True))
        started = time.perf_counter()
        try:
            lengths = [length_of(completion, question, self.unit) for completion, question in asked]
        except UnknownLengthError as error:
            return [replace(failed(str(error)), seconds=time.perf_counter() - started)] * len(asked)
        verdicts = [self._judge.verify(completion, question) for completion, question in asked]
        return [
            replace(verdict, score=_kimi(length, min(lengths), max(lengths), verdict.status is Status.CORRECT))
            if verdict.status.has_score
            else verdict
            for verdict, length in zip(verdicts, lengths, strict=True)
        ]


def _kimi(length: int, shortest: int, longest: int, right: bool) -> float:
    if shortest == longest:
        return 0.0
    share = 0.5 - (length - shortest) / (longest - shortest)
    return share if right else min(0.0, share)


def _make_judge(correct: str, num_workers: int, judge_args: dict[str, object]) -> Verifier:
    if not isinstance(correct, str):
        raise ValueError(f"correct = {correct!r}: the name of a verifier is needed")
    if correct in (CosineLengthVerifier.name, GroupLengthVerifier.name):
        raise ValueError(f"correct = {correct!r}: a verifier that judges by itself is needed, number for one")
    try:
        return make_from(JUDGES, correct, with_workers(JUDGES, correct, num_workers, judge_args))
    except ValueError as error:
        raise ValueError(f"correct = {correct!r}: {error}") from error


def _span(low_key: str, low: float, high_key: str, high: float) -> tuple[float, float]:
    low, high = _finite(low_key, low), _finite(high_key, high)
    if low > high:
        raise ValueError(f"{low_key} = {low!r}: at most {high_key} ({high!r}) is allowed")
    return low, high


def _finite(key: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} = {value!r}: a finite number is needed")
    return float(value)
