"""Rewards for the form of an answer, not for its truth: the tag layout, and the length.

Neither reads the reference.
"""

from typing import Literal

from rewards.verdict import Question, Status, Verdict

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
MODES = ("strict", "soft", "tag_count")
Mode = Literal["strict", "soft", "tag_count"]


class FormatVerifier:
    """Whether reasoning and answer stand inside their tags.

    ``strict``: 1 where the whole text is ``<think>..</think> <answer>..</answer>``, each tag once, both with
    content and nothing but white space around them. ``soft``: 1 where that layout occurs, whatever stands around it.
    ``tag_count``: a quarter for each of the four tags that occurs exactly once (open-r1's graded version).

    >>> FormatVerifier().verify("<think>2+2</think> <answer>4</answer>", Question(text="", reference="")).score
    1.0
    """

    name = "format"

    def __init__(self, *, mode: str = "strict", opened: bool = False) -> None:
        """``opened``: the prompt's template ends in ``<think>``, so the completion begins inside it.

        Raises:
            ValueError: ``mode`` is none of strict, soft, tag_count, or ``opened`` is no boolean.
        """
        if mode not in MODES:
            raise ValueError(f"mode = {mode!r}: allowed are {', '.join(MODES)}")
        if not isinstance(opened, bool):
            raise ValueError(f"opened = {opened!r}: allowed are true and false")
        self.mode = mode
        self.opened = opened

    def check_reference(self, reference: str) -> str | None:
        """Every reference will do: none is read."""
        return None

    def verify(self, completion: str, question: Question) -> Verdict:
        text = TAGS[0] + completion if self.opened else completion
        if self.mode == "tag_count":
            score = sum(text.count(tag) == 1 for tag in TAGS) / len(TAGS)
        else:
            score = float(_is_strict(text) if self.mode == "strict" else _is_soft(text))
        return Verdict(score=score, status=Status.CORRECT if score == 1.0 else Status.WRONG)

    def close(self) -> None:
        """Holds no process."""


class LengthVerifier:
    """DAPO's soft overlong penalty (arXiv 2503.14476, equation 13), in characters.

    0 up to ``max_characters - soft_characters``, then falling linearly to -1 at ``max_characters``, -1 beyond. In
    characters and not in tokens because a verifier sees text alone.

    >>> length = LengthVerifier(max_characters=100, soft_characters=20)
    >>> length.verify("x" * 90, Question(text="", reference="")).score
    -0.5
    """

    name = "length"

    def __init__(self, *, max_characters: int, soft_characters: int) -> None:
        """Raises ValueError unless ``0 < soft_characters <= max_characters``, both whole numbers."""
        for key, value in (("max_characters", max_characters), ("soft_characters", soft_characters)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{key} = {value!r}: a whole number of characters, at least 1, is needed")
        if soft_characters > max_characters:
            raise ValueError(
                f"soft_characters = {soft_characters}: at most max_characters ({max_characters}) is allowed"
            )
        self.max_characters = max_characters
        self.soft_characters = soft_characters

    def check_reference(self, reference: str) -> str | None:
        """Every reference will do: none is read."""
        return None

    def verify(self, completion: str, question: Question) -> Verdict:
        excess = len(completion) - (self.max_characters - self.soft_characters)
        score = -min(max(excess / self.soft_characters, 0.0), 1.0)
        return Verdict(score=score + 0.0, status=Status.CORRECT if score == 0 else Status.WRONG)

    def close(self) -> None:
        """Holds no process."""


def _is_strict(text: str) -> bool:
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    before, thinking, between, answer, after = _split(text)
    return not (before.strip() or between.strip() or after.strip()) and bool(thinking.strip() and answer.strip())


def _is_soft(text: str) -> bool:
    _, thinking, _, answer, _ = _split(text)
    return bool(thinking.strip() and answer.strip())


def _split(text: str) -> list[str]:
    """The five stretches around the four tags, each tag looked for after the one before; the missing are empty."""
    stretches = []
    for tag in TAGS:
        stretch, found, text = text.partition(tag)
        if not found:
            return [""] * (len(TAGS) + 1)
        stretches.append(stretch)
    return [*stretches, text]
