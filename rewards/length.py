"""DAPO's soft overlong penalty (arXiv 2503.14476, equation 13). Says nothing of truth; the reference is not read."""

from typing import Literal

from rewards.arguments import check_choice, check_whole
from rewards.base import InlineVerifier
from rewards.verdict import Question, Status, Verdict, failed

Unit = Literal["characters", "tokens"]
UNITS = ("characters", "tokens")


class UnknownLengthError(ValueError):
    """The length in tokens was asked for, and nobody gave the tokens."""


def length_of(completion: str, question: Question, unit: str) -> int:
    """How long the answer is, in characters of its text or in tokens as sampled.

    >>> length_of("4 apples", Question(text="", reference=""), "characters")
    8

    Raises:
        UnknownLengthError: ``unit`` is "tokens" and the question carries no ``completion_ids``.
    """
    if unit == "characters" or not completion:
        return len(completion)
    if not question.completion_ids:
        raise UnknownLengthError("the length in tokens needs Question.completion_ids, which are empty here")
    return len(question.completion_ids)


def check_unit(unit: str) -> str:
    """Raises ValueError unless ``unit`` is "characters" or "tokens"."""
    check_choice("unit", unit, UNITS)
    return unit


class LengthVerifier(InlineVerifier):
    """0 up to ``max - soft``, then falling linearly to -1 at ``max``, -1 beyond.

    In characters (``max_characters``, ``soft_characters``) or, as the paper has it, in tokens (``max_tokens``,
    ``soft_tokens``). The paper's own: 20480 and 4096 tokens.

    >>> length = LengthVerifier(max_characters=100, soft_characters=20)
    >>> length.verify("x" * 90, Question(text="", reference="")).score
    -0.5
    """

    name = "length"

    def __init__(
        self,
        *,
        max_characters: int | None = None,
        soft_characters: int | None = None,
        max_tokens: int | None = None,
        soft_tokens: int | None = None,
    ) -> None:
        """Raises ValueError unless one pair is given, whole numbers with ``0 < soft <= max``."""
        pairs = {"characters": (max_characters, soft_characters), "tokens": (max_tokens, soft_tokens)}
        given = [unit for unit, pair in pairs.items() if pair != (None, None)]
        if len(given) != 1:
            got = " and ".join(f"max_{unit}" for unit in given) or "neither"
            raise ValueError(
                "either 'max_characters' and 'soft_characters' or 'max_tokens' and 'soft_tokens' are needed, "
                f"in one unit; got {got}"
            )
        self.unit = given[0]
        largest, soft = pairs[self.unit]
        self.max = _whole(f"max_{self.unit}", largest, self.unit)
        self.soft = _whole(f"soft_{self.unit}", soft, self.unit)
        if self.soft > self.max:
            raise ValueError(f"soft_{self.unit} = {soft}: at most max_{self.unit} ({largest}) is allowed")

    def verify(self, completion: str, question: Question) -> Verdict:
        try:
            excess = length_of(completion, question, self.unit) - (self.max - self.soft)
        except UnknownLengthError as error:
            return failed(str(error))
        score = -min(max(excess / self.soft, 0.0), 1.0)
        return Verdict(score=score + 0.0, status=Status.CORRECT if score == 0 else Status.WRONG)


def _whole(key: str, value: int | None, unit: str) -> int:
    check_whole(key, value, 1, of=f"of {unit}")
    assert value is not None
    return value
