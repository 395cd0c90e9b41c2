"""Small drawings of one line, and text that a model wrote made fit for one. Pure; widths are terminal cells."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

from grpo.proportion import in_proportion


@dataclass(frozen=True, slots=True)
class Marks:
    """What to draw with."""

    levels: str  # of a sparkline, from low to high
    fills: str  # of the parts of a bar, told apart without colour
    done: str
    to_do: str
    rule: str
    ellipsis: str
    spinner: str


BLOCKS = Marks("▁▂▃▄▅▆▇█", "█▓▒░▚▞·", "━", "─", "─", "…", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
ASCII = Marks("_.-=+*#@", "#%=+*x.", "#", ".", "-", "...", "|/-\\")


def marks_for(encoding: str) -> Marks:
    """Blocks where the encoding has them all, else ASCII.

    >>> marks_for("utf-8") is BLOCKS, marks_for("latin-1") is ASCII
    (True, True)
    """
    try:
        "".join(getattr(BLOCKS, name) for name in BLOCKS.__slots__).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return BLOCKS


def printable(text: str, encoding: str) -> str:
    """Text that cannot move the cursor, colour the terminal or fail to be written; newlines and tabs stay."""
    shown = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown.encode(encoding, "replace").decode(encoding)


def cells_of(parts: Mapping[str, float], width: int) -> dict[str, int]:
    """How many of ``width`` cells each part takes, by its share; they add up (largest remainders).

    >>> cells_of({"a": 2.0, "b": 1.0, "c": 0.01}, 10)
    {'a': 7, 'b': 3, 'c': 0}
    """
    if math.fsum(parts.values()) <= 0 or width < 1:
        return dict.fromkeys(parts, 0)
    return dict(zip(parts, in_proportion(width, list(parts.values())), strict=True))


def folded(text: str, width: int, num_lines: int, ellipsis: str) -> list[str]:
    """Text on one line, cut into at most so many of ``width`` cells; of longer text its beginning and its end.

    >>> folded("one two three four five six", 8, 2, "...")
    ['one two', '...six']
    """
    if width < 2:
        return []
    lines = [line.strip() for line in chop_cells(" ".join(text.split()), width)]
    if len(lines) <= num_lines:
        return lines
    head = num_lines // 2
    tail = num_lines - head
    ending = "".join(chop_cells(" ".join(text.split()), width)[-tail - 1 :])
    return lines[:head] + _last(ending, tail, width, ellipsis)


def _last(text: str, num_lines: int, width: int, ellipsis: str) -> list[str]:
    """The last lines of a text, the first of which begins with an ellipsis."""
    room = num_lines * width - cell_len(ellipsis) - num_lines  # a wide character may leave a cell empty on each line
    kept, used = "", 0
    for char in reversed(text):
        used += cell_len(char)
        if used > room:
            break
        kept = char + kept
    return [line.strip() for line in chop_cells(ellipsis + kept.lstrip(), width)]
