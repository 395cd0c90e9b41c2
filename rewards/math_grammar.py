r"""Reads one answer, LaTeX or plain text, into a tree: recursive descent, linear in the length of the text.

What it does not read raises: integrals, limits, cases and prose are left to others, never guessed at. Where both
spellings exist, the reading is the one that people mean: ``2^10`` is a power of ten in plain text, ``\frac12`` a half,
``1 1/2`` and ``1\frac{1}{2}`` are mixed numbers, ``1/2x`` goes from left to right.
"""

import re

from rewards.math_operand import OperandReader
from rewards.math_scanner import NotReadableError
from rewards.math_tree import Node, negative, number, reciprocal
from rewards.unit import unit_of

_SIGNS = re.compile(r"<=|>=|!=|==|[<>=]|\\(?:le|ge|ne|equiv|in|approx|sim)(?![A-Za-z])")
_SIGN_NAMES = {"\\le": "<=", "\\ge": ">=", "\\ne": "!=", "==": "=", "\\equiv": "=", "\\in": "in"}
_AND = r"(?:(?:and|or)(?![A-Za-z])|\\text ?\{[ ,]*(?:and|or)[ ,]*\})"
_SEPARATOR = re.compile(rf"[,;] ?{_AND}?|{_AND}")
_COMMA = re.compile("[,;]")
_LEAD = re.compile(r"(?:either|both)(?![A-Za-z])|\\text ?\{ ?(?:either|both) ?\}")
_DEGREE = re.compile(r"\^ ?(?:\{ ?\\circ ?\}|\\circ(?![A-Za-z])) ?(?:\\text ?\{ ?[CF] ?\}|[CF](?![A-Za-z]))?")
_PERCENT = re.compile(r"\\%")
_NO_OPERAND = frozenset("0123456789.,;:=<>+-*/^_!)]}&|'$%?@#\"")
_STOPS_TEXT = "text end cup cap setminus backslash le ge ne equiv in approx sim pm mp rfloor rceil circ"
_STOPS = frozenset(_STOPS_TEXT.split())
_WORD_AHEAD = re.compile(r"(?:and|or)(?![A-Za-z])|U(?= ?[(\[])")
_FUNCTION_AHEAD = re.compile(r"\\(?:arc)?(?:sin|cos|tan|sec|csc|cot|ln|log)(?![A-Za-z])|(?:sin|cos|tan|ln|log)")
_UNION = re.compile(r"\\cup(?![A-Za-z])|U(?= ?[(\[])")
_MINUS = re.compile(r"\\(?:setminus|backslash)(?![A-Za-z])")


def parse(text: str, *, grouped: bool = True) -> Node:
    """The tree of a tidy text. ``grouped``: whether ``1,234`` at top level is one number or two.

    Raises:
        NotReadableError: the text is not in the grammar; the message says where it stops.
    """
    parser = _Parser(text, grouped=grouped)
    tree = parser.listing()
    if parser.next_character():
        raise NotReadableError(f"{parser.ahead()!r} is not expected there")
    return tree


class _Parser(OperandReader):
    # Lists, relations, sets

    def listing(self) -> Node:
        self.take(_LEAD)
        items, joined = [self.relation()], ""
        while (match := self.take(_SEPARATOR)) is not None:
            joined = "and" if "and" in match.group() else joined
            items.append(self.relation())
        return items[0] if len(items) == 1 else Node("list", tuple(items), joined)

    def items(self) -> tuple[Node, ...]:
        items = [self.relation()]
        while self.take(_COMMA):
            items.append(self.relation())
        return tuple(items)

    def relation(self) -> Node:
        sides, signs = [self.union()], []
        while (match := self.take(_SIGNS)) is not None:
            sign = _SIGN_NAMES.get(match.group(), match.group())
            if sign in ("\\approx", "\\sim"):
                raise NotReadableError("an approximation is no answer")
            signs.append(sign)
            sides.append(self.union())
        return sides[0] if not signs else Node("relation", tuple(sides), " ".join(signs))

    def union(self) -> Node:
        parts = [self.ratio()]
        if self.take(_MINUS):
            return Node("minus", (parts[0], self.ratio()))
        while self.take(_UNION):
            parts.append(self.ratio())
        return parts[0] if len(parts) == 1 else Node("union", tuple(parts))

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.accept(":"):
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else Node("ratio", tuple(parts))

    # Arithmetic

    def sum(self) -> Node:
        with self.deeper():
            terms = [self._first_term()]
            while sign := self._additive():
                terms.append(_signed(sign, self._product()))
        return self._with_unit(terms[0] if len(terms) == 1 else Node("sum", tuple(terms)))

    def _additive(self) -> str:
        """The sign that comes next, read: + - or one of plus-minus; empty where none does."""
        if self.command() in ("pm", "mp"):
            return self.take_command()
        for sign, meaning in (("+/-", "pm"), ("+-", "pm") if self.at == 0 else ("+", "+"), ("+", "+"), ("-", "-")):
            if self.accept(sign):
                return meaning
        return ""

    def _first_term(self) -> Node:
        sign = self._additive()
        dollars = self.brackets == 0 and (self.accept("\\$") or self.accept("$"))
        if dollars and not sign:
            sign = "-" if self.accept("-") else ""
        value = _signed(sign, self._product())
        return Node("quantity", (value,), "dollar") if dollars else value

    def _product(self) -> Node:
        value = self._factor()
        while True:
            if self.accept("*"):
                value = _times(value, self._factor())
            elif self.accept("/"):
                value = _times(value, reciprocal(self._factor()))
            elif self._adjoins():
                value = _times(value, self.power())
            else:
                return value

    def implicit_run(self) -> Node:
        """The argument of a function without brackets: a run of factors, up to a sign or another function."""
        value = self._factor()
        while self._adjoins() and not _FUNCTION_AHEAD.match(self.text, self.at):
            value = _times(value, self.power())
        return Node("quantity", (value,), "degree") if self.take(_DEGREE) else value

    def _factor(self) -> Node:
        """A power, with a sign before it where one stands: ``2 * -3``."""
        if not self.sees("+", "-"):
            return self.power()
        with self.deeper():
            return _signed(self._additive(), self._factor())

    def _adjoins(self) -> bool:
        """Whether an operand follows with nothing between. A number never does, so that ``2 3`` is not 6."""
        character = self.next_character()
        if character.isdigit():
            return self.text[: self.at].rstrip().endswith("!")  # 10!10!
        if not character or character in _NO_OPERAND or not character.isascii():
            return False
        if self.sees("\\}", "\\$", "\\%", "\\\\") or self.command() in _STOPS:
            return False
        return not (character.isalpha() and (_WORD_AHEAD.match(self.text, self.at) or self._unit_ahead()))

    def _unit_ahead(self) -> bool:
        """Whether all that is left is a known unit, set off by a space: ``3 cm``, but ``3m`` is three times m."""
        rest = self.text[self.at :]
        return len(rest) <= 40 and self.text[self.at - 1] == " " and bool(unit_of(rest))

    def power(self) -> Node:
        base = self._factorials(self.primary())
        if _DEGREE.match(self.text, self.at) or not self.accept("^"):
            return base
        with self.deeper():
            exponent = self._exponent()
        return self._factorials(Node("power", (base, exponent)))

    def _exponent(self) -> Node:
        if self.accept("{"):
            return self.bracketed(self.sum, "}")
        if not self.sees("+", "-"):
            return self.power()
        with self.deeper():
            return _signed(self._additive(), self._exponent())

    def _factorials(self, value: Node) -> Node:
        num_signs = 0
        while self.sees("!") and not self.sees("!="):
            self.at += 1
            num_signs += 1
            if self.text.startswith("!", self.at) or num_signs > 3:
                raise NotReadableError("'!!' has two meanings")
            value = Node("call", (value,), "factorial")
        return value

    def _with_unit(self, value: Node) -> Node:
        if value.kind in ("words", "quantity"):
            return value
        if self.take(_DEGREE):
            return Node("quantity", (value,), "degree")
        if self.take(_PERCENT):
            return Node("quantity", (value,), "percent")
        rest = self.text[self.at :] if self.brackets == 0 else ""
        if not rest or _SEPARATOR.match(rest.lstrip()):
            return value
        unit = unit_of(rest)
        if unit is None or (not unit and value.kind != "number"):
            return value
        self.at = len(self.text)
        return Node("quantity", (value,), unit)


def _signed(sign: str, value: Node) -> Node:
    if sign in ("pm", "mp"):
        return Node("plus_minus", (value,), "+" if sign == "pm" else "-")
    return negative(value) if sign == "-" else value


def _times(left: Node, right: Node) -> Node:
    """Flat, so that a long product nests no deeper than a short one."""
    factors = left.parts if left.kind == "product" else (left,)
    if left.kind == "number" and right.kind == "number":
        return (
            number(left.value * right.value) if left.digits + right.digits < 4_000 else Node("product", (left, right))
        )
    return Node("product", (*factors, right))
