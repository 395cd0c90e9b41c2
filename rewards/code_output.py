r"""Printed output against what was expected, as judges compare it.

White space at the ends of lines, empty lines at either end and ``\r`` do not count, nor does how many blanks stand
between two words of a line. Lines and words must be as many, and each word the same text, but that ``3.0`` will do for
``3``; where the expected word is written as a decimal (``0.5``, ``1e-7``), a number within the tolerance of it will do
(``close``).
"""

import math
import re
from typing import NamedTuple

_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,30}\.[0-9]{0,40}|\.[0-9]{1,40}|[0-9]{1,30}(?=[eE]))(?:[eE][+-]?[0-9]{1,3})?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_WIDEST = 1e3  # the size from which on the tolerance grows no more
_ROUNDING = 1e-12  # relative, of some thousands of operations in double precision
_MAX_SHOWN = 60


class Difference(NamedTuple):
    line: int  # of the output, from 1
    expected: str
    given: str


def difference(expected: str, given: str, tolerance: float) -> Difference | None:
    """The first line in which the two outputs differ; None where they are the same to a judge.

    >>> difference("1 0.5\\n", "1  0.5000001  \\n\\n", 1e-6) is None
    True
    >>> difference("1\\n2", "1\\n3", 1e-6)
    Difference(line=2, expected='2', given='3')
    """
    expected_lines, given_lines = _lines(expected), _lines(given)
    for number, (left, right) in enumerate(zip(expected_lines, given_lines, strict=False), start=1):
        if left != right and not _same_line(left, right, tolerance):
            return Difference(number, left, right)
    if len(expected_lines) == len(given_lines):
        return None
    at = min(len(expected_lines), len(given_lines))
    left = expected_lines[at] if at < len(expected_lines) else "the end"
    right = given_lines[at] if at < len(given_lines) else "the end"
    return Difference(at + 1, left, right)


def describe(found: Difference) -> str:
    """In one short line, for people."""
    return f"line {found.line}: expected {_short(found.expected)}, got {_short(found.given)}"


def close(expected: float, given: float, tolerance: float) -> bool:
    """Whether ``given`` is within ``tolerance`` of ``expected``: absolute below 1, relative up to a thousand.

    Above, it stays as wide as at a thousand: at a million a relative 1e-6 would take one cent, or one whole, for
    another. What double precision cannot tell apart is the same at any size.

    >>> close(1234567.89, 1234568.89, 1e-6), close(1234567.89, 1234567.8900001, 1e-6)
    (False, True)
    """
    if math.isnan(expected) or math.isinf(expected):
        return expected == given or (math.isnan(expected) and math.isnan(given))
    size = abs(expected)
    allowed = max(tolerance * min(max(size, 1.0), _WIDEST), min(tolerance, _ROUNDING) * size)
    return expected == given or abs(expected - given) <= allowed


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    first = next((place for place, line in enumerate(lines) if line), len(lines))
    while lines and not lines[-1]:
        lines.pop()
    return lines[first:]


def _same_line(expected: str, given: str, tolerance: float) -> bool:
    left, right = expected.split(), given.split()
    return len(left) == len(right) and all(
        one == other or _same_number(one, other, tolerance) for one, other in zip(left, right, strict=True)
    )


def _same_number(expected: str, given: str, tolerance: float) -> bool:
    if tolerance and _WHOLE.fullmatch(expected):
        return given.startswith(f"{expected}.0") and not given[len(expected) + 1 :].strip("0")
    if not tolerance or _DECIMAL.fullmatch(expected) is None or _NUMBER.fullmatch(given) is None:
        return False
    return close(float(expected), float(given), tolerance)


def _short(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")
