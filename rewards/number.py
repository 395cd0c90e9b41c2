r"""Numbers compared exactly, as fractions: no float takes part, so 0.1 + 0.2 surprises do not exist.

What counts as one number: an integer, a decimal, a fraction ``a/b`` or ``\frac{a}{b}``, a mixed number ``1 1/4``;
with sign, thousands separators, currency sign, percent sign or a unit in words (``70,000 dollars``). ``parse_number``
drops the unit. ``4 or 5``, ``3x``, ``2^10`` and ``18 but it may be twelve`` are no number.
"""

import re
import time
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rewards.base import InlineVerifier
from rewards.extract import UNSIGNED, extractor
from rewards.unit import unit_of
from rewards.verdict import Question, Status, Verdict, failed

MAX_CHARACTERS = 200  # of one number; longer is no answer that a person would write
_SPACED = r"[0-9]{1,3}(?:[ ][0-9]{3}){1,12}"
_VALUE = re.compile(
    rf"""
    (?:[a-zA-Z]\w{{0,20}}\s?=\s?)?                      # x =
    (?P<sign>[+-]?)\s?(?P<currency>[$€£¥]?)\s?(?P<inner>[+-]?)
    (?:
        \\[dt]?frac\s?\{{\s?(?P<frac_top>-?[0-9]+)\s?\}}\s?\{{\s?(?P<frac_bottom>[0-9]+)\s?\}}
      | (?P<whole>[0-9]+)\s(?P<mixed_top>[0-9]+)\s?/\s?(?P<mixed_bottom>[0-9]+)
      | (?P<mantissa>{UNSIGNED})[eE](?P<exponent>[+-]?[0-9]{{1,3}})
      | (?P<top>{_SPACED}|{UNSIGNED})(?:\s?/\s?(?P<bottom>{UNSIGNED}))?
    )
    (?P<unit>\s?[%$€£¥¢°]|\s?[%°]?\s[A-Za-z][A-Za-z'°./²³^0-9\ -]{{0,40}})?
    \.?
    """,
    re.VERBOSE,
)
_NEGATIVE_SPACE = re.compile(r"\\!\s{0,8}")  # 11,\! 111,\! 100
_MARKUP = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "`": None})
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"))


class Quantity(NamedTuple):
    """A number and its unit, canonical where it is known (``rewards.unit``), empty where there is none to compare."""

    value: Fraction
    unit: str


def parse_number(text: str) -> Fraction | None:
    """The exact value of a text that is one number and nothing else, whatever its unit; else None.

    >>> parse_number("-1,234.50"), parse_number("4 or 5")
    (Fraction(-2469, 2), None)
    """
    quantity = quantity_of(text)
    return None if quantity is None else quantity.value


def quantity_of(text: str) -> Quantity | None:
    """As ``parse_number``, with the unit.

    >>> quantity_of("$5"), quantity_of("5 apples"), quantity_of("18 but it may be twelve")
    (Quantity(value=Fraction(5, 1), unit='dollar'), Quantity(value=Fraction(5, 1), unit=''), None)
    """
    return None if len(text) > MAX_CHARACTERS else _read_quantity(text)  # a cache must not keep floods alive


@lru_cache(maxsize=1024)  # a group's answers repeat, and share their reference
def _read_quantity(text: str) -> Quantity | None:
    match = _VALUE.fullmatch(strip_markup(text))
    if match is None or (match["sign"] and match["inner"]):
        return None
    units = [unit_of(match[name]) for name in ("currency", "unit") if match[name]]
    unit = _join_units(units)
    if unit is None:
        return None
    try:
        magnitude = _magnitude(match)
    except ZeroDivisionError:
        return None
    if magnitude is None:
        return None
    return Quantity(-magnitude if "-" in (match["sign"], match["inner"]) else magnitude, unit)


def _join_units(units: list[str | None]) -> str | None:
    """One unit of those before and behind a number: ``$5 per hour`` is dollars per hour, ``$5 euros`` is nothing."""
    if len(units) < 2 or units[1] in ("", units[0]):
        return units[0] if units else ""
    first, second = units
    return f"{first}{second}" if first is not None and second is not None and second.startswith("/") else None


def strip_markup(text: str) -> str:
    r"""Without what typesets a value but is no part of it: ``$ $``, ``**``, thin spaces, ``{,}``, ``\%``."""
    text = _NEGATIVE_SPACE.sub("", text.translate(_MARKUP)).replace("{,}", ",").strip()
    for opening, closing in _DELIMITERS:
        inner = text[len(opening) : -len(closing)]
        if inner and text.startswith(opening) and text.endswith(closing) and opening not in inner.replace("\\$", ""):
            text = inner.strip()
    return text.replace("\\%", "%").replace("\\$", "$").replace("\\,", " ").strip()


class NumberVerifier(InlineVerifier):
    """1 where the extracted number equals the reference exactly, else 0.

    ``extracted`` is the canonical fraction, so a vote counts 4, 4.0 and +4 as one answer.

    >>> verifier = NumberVerifier(extract="last_number")
    >>> verifier.verify("2 + 2 = 4.0", Question(text="2 + 2?", reference="4")).extracted
    '4'
    """

    name = "number"

    def __init__(self, *, extract: str = "answer_tags") -> None:
        """Raises ValueError where ``extract`` names no search of ``rewards.extract``."""
        self.extract = extract
        self._find = extractor(extract)

    def check_reference(self, reference: str) -> str | None:
        if parse_number(reference) is None:
            return f"{shorten(reference)} is not one plain number"
        return None

    def verify(self, completion: str, question: Question) -> Verdict:
        started = time.perf_counter()
        expected = parse_number(question.reference)
        if expected is None:
            return failed(self.check_reference(question.reference) or "")
        span = self._find(completion)
        value = None if span is None else parse_number(span)
        seconds = time.perf_counter() - started
        if value is None:
            reason = f"no answer by {self.extract!r}" if span is None else f"{shorten(span)} is not one number"
            return Verdict(score=0.0, status=Status.UNPARSED, reason=reason, seconds=seconds)
        right = value == expected
        status = Status.CORRECT if right else Status.WRONG
        return Verdict(score=float(right), status=status, extracted=str(value), seconds=seconds)


def shorten(text: str, limit: int = 60) -> str:
    """``text`` quoted, cut to ``limit`` characters: reasons are logged, and answers may be floods."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def _magnitude(match: re.Match[str]) -> Fraction | None:
    if match["frac_top"] is not None:
        return Fraction(int(match["frac_top"]), int(match["frac_bottom"]))
    if match["whole"] is not None:
        return _mixed(int(match["whole"]), int(match["mixed_top"]), int(match["mixed_bottom"]))
    if match["mantissa"] is not None:
        return _decimal(match["mantissa"]) * Fraction(10) ** int(match["exponent"])
    top, bottom = _decimal(match["top"]), _decimal(match["bottom"] or "1")
    if match["bottom"] and (top / bottom).denominator == 1:
        return None  # 48/2 is a problem, not its answer
    return top / bottom


def _mixed(whole: int, top: int, bottom: int) -> Fraction | None:
    """``1 1/4``; an improper part (``4 10/3``) is two numbers side by side, hence no number."""
    return whole + Fraction(top, bottom) if top < bottom else None


def _decimal(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", ""))
