r"""Reads one numeral: its digits however grouped, a repeating part, an exponent, a base, a mixed number."""

import re
from fractions import Fraction

from rewards.math_scanner import NotReadableError, Scanner
from rewards.math_tree import Node, number

DIGIT_RUN = re.compile("[0-9]+")
_DIGITS = re.compile(
    r"(?P<grouped>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]))(?P<grouped_tail>\.[0-9]+)?"
    r"|(?P<spaced>[1-9][0-9]{0,2}(?: [0-9]{3})+(?![0-9]| ?/))"
    r"|(?P<plain>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]{1,9})(?![0-9A-Za-z.])")
_REPEATING = re.compile(r"\\(?:overline|dot|bar) ?\{([0-9]{1,30})\}")
_MIXED = re.compile(
    r" ([0-9]+) ?/ ?([0-9]+)(?![0-9.])| ?\\frac ?(?:\{ ?([0-9]+) ?\}|([0-9])) ?(?:\{ ?([0-9]+) ?\}|([0-9]))"
)
_BASE_WORD = re.compile(r"_ ?\{ ?\\text ?\{ ?([A-Za-z]{1,10}) ?\} ?\}")
_BASES = {
    **{"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"},
    **{"ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16"},
}


class NumeralReader(Scanner):
    """``grouped``: whether ``1,234`` is one number outside brackets."""

    def __init__(self, text: str, *, grouped: bool) -> None:
        super().__init__(text)
        self.grouped = grouped

    def numeral(self) -> Node:
        match = self.take(_DIGITS)
        if match is None:
            raise NotReadableError("a dot is no number")
        separated = match["grouped"] or match["spaced"]
        if match["grouped"] and (self.brackets or not self.grouped):
            digits = match["grouped"].split(",", 1)[0]
            self.at = match.start() + len(digits)
        else:
            tail = match["grouped_tail"] or ""
            digits = re.sub("[, ]", "", separated) + tail if separated else match["plain"]
        before = self.text[match.start() - 1 : match.start()]
        return self._after_digits(
            Fraction(digits.rstrip(".") or "0"), digits, mixable=before not in ("^", "_", "*", "/")
        )

    def _after_digits(self, value: Fraction, digits: str, *, mixable: bool) -> Node:
        """With what belongs to the number: a repeating part, an exponent, a base, the fraction of a mixed number."""
        repeating = _REPEATING.match(self.text, self.at) if "." in digits else None
        if repeating is not None:
            self.at = repeating.end()
            period, places = repeating.group(1), len(digits.split(".")[1])
            return number(value + Fraction(int(period), (10 ** len(period) - 1) * 10**places))
        exponent = _EXPONENT.match(self.text, self.at)
        if exponent is not None:
            self.at = exponent.end()
            return Node("product", (number(value), Node("power", (number(10), number(int(exponent.group(1)))))))
        if self.text.startswith("_", self.at):
            return Node("based", name=self.base(), value=value)
        mixed = _MIXED.match(self.text, self.at) if mixable and "." not in digits else None
        if mixed is None:
            return number(value)
        top, bottom = (int(part) for part in mixed.groups() if part is not None)
        if top >= bottom or value == 0:
            raise NotReadableError("a number beside an improper fraction")
        self.at = mixed.end()
        return number(value + Fraction(top, bottom))

    def base(self) -> str:
        """The base that comes next, in digits: ``_2``, ``_{(2)}``, ``_{\\text{two}}``."""
        words = self.take(_BASE_WORD)
        if words is None:
            return self.subscript().strip("()")
        name = words.group(1).casefold()
        return _BASES.get(name, name)

    def subscript(self) -> str:
        """The subscript that comes next, as text; empty where none does."""
        if not self.text.startswith("_", self.at):
            return ""
        self.at += 1
        if self.text.startswith("{", self.at):
            end = self.text.find("}", self.at)
            text = self.text[self.at + 1 : end]
            if end < 0 or "{" in text:
                raise NotReadableError("a subscript is not closed")
            self.at = end + 1
            return "".join(text.split())
        run = DIGIT_RUN.match(self.text, self.at)
        text = run.group() if run else self.text[self.at : self.at + 1]
        if not text.isalnum():
            raise NotReadableError("a subscript of no letter or digit")
        self.at += len(text)
        return text
