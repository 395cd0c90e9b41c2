"""Whether an answer keeps to the tag layout. Says nothing of its truth; the reference is not read.

Sources: the layout is DeepSeek-R1's (arXiv 2501.12948, section 2.2.2, table 1); ``tag_count`` is the graded version
that open-r1 (``tag_count_reward``) and others use; the two ``_lines`` modes are open-r1's ``format_reward`` and
``tag_count_reward`` as they are written there, for whoever repeats its recipes.
"""

import re
from typing import Literal

from rewards.arguments import check_choice
from rewards.base import InlineVerifier
from rewards.verdict import Question, Status, Verdict

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
TAG_LINES = (
    "<think>\n",
    "\n</think>\n",
    "\n<answer>\n",
    "\n</answer>",
)  # tags with the line breaks that open-r1 counts
Mode = Literal["strict", "soft", "tag_count", "strict_lines", "tag_count_lines"]
MODES = ("strict", "soft", "tag_count", "strict_lines", "tag_count_lines")


class FormatVerifier(InlineVerifier):
    """Whether reasoning and answer stand inside their tags.

    - ``strict``: 1 where the whole text is ``<think>..</think> <answer>..</answer>``, each tag once, both with content
      and nothing but white space around them.
    - ``soft``: 1 where that layout occurs, whatever stands around it.
    - ``tag_count``: a quarter for each of the four tags that occurs exactly once.
    - ``strict_lines``: as ``strict``, and each tag on a line of its own, nothing before the first and after the last.
      open-r1's pattern lets a tag occur again within the content; this one does not.
    - ``tag_count_lines``: a quarter for each of ``<think>\\n``, ``\\n</think>\\n``, ``\\n<answer>\\n`` and
      ``\\n</answer>`` that occurs exactly once. A line break between two tags counts for both.

    >>> FormatVerifier().verify("<think>2+2</think> <answer>4</answer>", Question(text="", reference="")).score
    1.0
    >>> tags = FormatVerifier(mode="tag_count_lines")
    >>> tags.verify("<think>\\n2+2\\n</think> <answer>4</answer>", Question(text="", reference="")).score
    0.25
    """

    name = "format"

    def __init__(self, *, mode: str = "strict", opened: bool = False) -> None:
        """``opened``: the prompt's template ends in ``<think>``, so the completion begins inside it.

        Raises:
            ValueError: ``mode`` is none of the five, or ``opened`` is no boolean.
        """
        check_choice("mode", mode, MODES)
        if not isinstance(opened, bool):
            raise ValueError(f"opened = {opened!r}: allowed are true and false")
        self.mode = mode
        self.opened = opened

    def verify(self, completion: str, question: Question) -> Verdict:
        score = self._score(self._opening(completion) + completion)
        return Verdict(score=score, status=Status.CORRECT if score == 1.0 else Status.WRONG)

    def _opening(self, completion: str) -> str:
        """What the prompt already wrote; the line break after the tag counts whether prompt or model wrote it."""
        if not self.opened:
            return ""
        lines = self.mode.endswith("_lines") and not completion.startswith("\n")
        return TAG_LINES[0] if lines else TAGS[0]

    def _score(self, text: str) -> float:
        if self.mode == "tag_count":
            return sum(text.count(tag) == 1 for tag in TAGS) / len(TAGS)
        if self.mode == "tag_count_lines":
            return sum(text.count(tag) == 1 for tag in TAG_LINES) / len(TAG_LINES)
        if self.mode == "soft":
            return float(_is_soft(text))
        return float(_is_strict(text) and (self.mode == "strict" or _is_on_lines(text)))


class TagCountVerifier(FormatVerifier):
    """``format`` with ``mode: tag_count_lines``, by a name of its own: open-r1's recipes have both in one list.

    >>> TagCountVerifier().verify("<think>\\n2+2\\n</think> 4", Question(text="", reference="")).score
    0.25
    """

    name = "tag_count"

    def __init__(self, *, opened: bool = False) -> None:
        super().__init__(mode="tag_count_lines", opened=opened)


def _is_strict(text: str) -> bool:
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    before, thinking, between, answer, after = _split(text)
    return not (before.strip() or between.strip() or after.strip()) and bool(thinking.strip() and answer.strip())


def _is_soft(text: str) -> bool:
    _, thinking, _, answer, _ = _split(text)
    return bool(thinking.strip() and answer.strip())


def _is_on_lines(text: str) -> bool:
    """Whether the four tags of a strict text stand as ``<think>\\n..\\n</think>\\n<answer>\\n..\\n</answer>``."""
    before, thinking, between, answer, after = _split(text)
    bounded = all(re.fullmatch(r"\n(?:.*\n)?", part, re.DOTALL) for part in (thinking, answer))
    return bounded and (before, between, after) in (("", "\n", ""), ("", "\n", "\n"))


def _split(text: str) -> list[str]:
    """The five stretches around the four tags, each tag looked for after the one before; the missing are empty."""
    stretches = []
    for tag in TAGS:
        stretch, found, text = text.partition(tag)
        if not found:
            return [""] * (len(TAGS) + 1)
        stretches.append(stretch)
    return [*stretches, text]
