"""Countdown with three numbers, solved by trying: what a document of the tiny Countdown base writes.

A search joins two of the numbers, lists what the third makes of their value by ``+``, ``-`` and ``*``, and goes on to
the next two until the target is there. Division is left out, so that a few problems in a hundred stay unsolved.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_VALUE = 100  # a larger third value is not written down: no target lies there
_PAIRS = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # the two that are joined first, then the third


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Two numbers joined, ``text`` without its value.

    >>> Join.of(3, "-", 5)
    Join(text='5-3', value=2)
    """

    text: str
    value: int

    @classmethod
    def of(cls, left: int, operator: str, right: int) -> "Join":
        if operator == "*":
            return cls(text=f"{left}*{right}", value=left * right)
        if operator == "+":
            return cls(text=f"{left}+{right}", value=left + right)
        return cls(text=f"{max(left, right)}-{min(left, right)}", value=abs(left - right))


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One whole expression: ``first`` joined with the ``third`` number."""

    first: Join
    operator: str
    third: int

    @property
    def value(self) -> int:
        return Join.of(self.first.value, self.operator, self.third).value

    @property
    def expression(self) -> str:
        """In the form of an answer.

        >>> Try(first=Join.of(3, "+", 5), operator="-", third=9).expression
        '9-(3+5)'
        """
        if self.operator == "-" and self.third > self.first.value:
            return f"{self.third}-({self.first.text})"
        return f"({self.first.text}){self.operator}{self.third}"


def tries(nums: Sequence[int]) -> Iterator[Try]:
    """All of them, in the order of the search."""
    for left, right, third in _PAIRS:
        for first, second in itertools.product("*+-", "+-*"):
            attempt = Try(first=Join.of(nums[left], first, nums[right]), operator=second, third=nums[third])
            if attempt.value <= MAX_VALUE:
                yield attempt


def answer_text(nums: Sequence[int], target: int, kind: str, rng: random.Random) -> str:
    """What follows ``A:``: ``search``, ``jump`` to an expression at random, or ``slip``, a search that stops too soon.

    A search that finds nothing ends in a jump.

    >>> answer_text([3, 5, 4], 32, "search", random.Random(0))
    '<think>3*5=15:19,11,60;3+5=8:12,4,32</think><answer>(3+5)*4</answer>'
    """
    every = list(tries(nums))
    if kind == "jump":
        return f"<answer>{rng.choice(every).expression}</answer>"
    hit = next((at for at, attempt in enumerate(every) if attempt.value == target), None)
    last = hit if kind == "search" else rng.randrange(len(every))
    written = _as_text(every if last is None else every[: last + 1])
    answer = rng.choice(every) if last is None else every[last]
    return f"<think>{written}</think><answer>{answer.expression}</answer>"


def _as_text(attempts: Sequence[Try]) -> str:
    groups = itertools.groupby(attempts, key=lambda attempt: attempt.first)
    return ";".join(
        f"{first.text}={first.value}:{','.join(str(attempt.value) for attempt in group)}" for first, group in groups
    )
