"""Characters and depth for the readers of mathematics: an offset into a text, and how deep it is nested."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

MAX_DEPTH = 60  # constructs within one another, several to a bracket

_SPACE = re.compile(r"\s*")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_Read = TypeVar("_Read")


class NotReadableError(ValueError):
    """The text is not in the grammar."""


class ForeignError(NotReadableError):
    """It holds a command that the grammar does not know: it may be mathematics all the same."""


class Scanner:
    """``at`` is the offset of the next character; every method that reads leaves it behind what it has read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.brackets = 0  # that are open
        self.bars = 0  # open bars of an absolute value, since the last bracket
        self._depth = 0

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What ``pattern`` matches next, read; None, and nothing but white space read, where it does not."""
        self.skip()
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def sees(self, *literals: str) -> bool:
        self.skip()
        return self.text.startswith(literals, self.at)

    def accept(self, literal: str) -> bool:
        seen = self.sees(literal)
        if seen:
            self.at += len(literal)
        return seen

    def expect(self, literal: str) -> None:
        if not self.accept(literal):
            raise NotReadableError(f"{literal!r} is missing before {self.ahead()!r}")

    def ahead(self) -> str:
        """The next characters, for messages."""
        return self.text[self.at : self.at + 12]

    def next_character(self) -> str:
        """Behind white space; empty at the end."""
        self.skip()
        return self.text[self.at : self.at + 1]

    def command(self) -> str:
        """Name of the command that comes next, without reading it; empty where none does."""
        self.skip()
        match = _COMMAND.match(self.text, self.at)
        return match.group(1) if match else ""

    def take_command(self) -> str:
        match = self.take(_COMMAND)
        return match.group(1) if match else ""

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Counts the constructs that are open, so that no text exhausts the stack."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotReadableError(f"more than {MAX_DEPTH} constructs within one another")
        yield
        self._depth -= 1

    def bracketed(self, read: Callable[[], _Read], closing: str) -> _Read:
        """What ``read`` reads, up to ``closing``, behind an opening bracket that was read."""
        with self.deeper():
            self.brackets += 1
            bars, self.bars = self.bars, 0
            value = read()
            self.expect(closing)
            self.bars = bars
            self.brackets -= 1
        return value
