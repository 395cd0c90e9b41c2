"""The tree that an answer is parsed into, and how large its value may be before anything is computed.

One type of node for all kinds, because every consumer walks it generically:

    number (value), symbol (name), call (name, arguments), sum, product, power (base, exponent),
    list (name "and" where that word joins it),
    plus_minus (name "+" or "-", one part), group (name is its brackets, "()" to "[)"), set, union, minus,
    matrix (rows of kind row), relation (name lists its signs, parts its sides), ratio, quantity (name is its unit),
    based (value's digits in base name), words (name), ellipsis.

>>> Node("product", (number(2), symbol("x"))).kind
'product'
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

MAX_EXACT_DIGITS = 20_000  # decimal digits of an integer that exact arithmetic may write out
MAX_DIGITS = 1_000_000.0  # decimal digits of a value that is evaluated at all, as a floating-point number
_MAX_TERMS = 2_000  # of a finite sum or product
CONSTANTS = ("pi", "e", "i", "infinity")


@dataclass(frozen=True)
class Node:
    """Compared and hashed by content. ``value`` is for numbers, ``name`` for all that is told apart by a word."""

    kind: str
    parts: tuple["Node", ...] = ()
    name: str = ""
    value: Fraction = Fraction(0)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """Names of the free symbols: neither constants nor what a sum binds."""
        if self.kind == "symbol":
            return frozenset() if self.name in CONSTANTS else frozenset((self.name,))
        inner = frozenset[str]().union(*(part.symbols for part in self.parts))
        return (
            inner - {self.parts[0].name}
            if self.kind == "call" and self.name in ("summation", "multiplication")
            else inner
        )

    @cached_property
    def digits(self) -> float:
        """An upper estimate of the decimal digits of the value and of all in between; infinite past all bounds.

        A symbol counts as one digit: probes are small rationals. Nothing is computed but logarithms.
        """
        return _digits(self)

    def walk(self) -> Iterator["Node"]:
        yield self
        for part in self.parts:
            yield from part.walk()

    def has(self, *kinds: str) -> bool:
        return any(node.kind in kinds for node in self.walk())


def number(value: int | Fraction) -> Node:
    return Node("number", value=Fraction(value))


def symbol(name: str) -> Node:
    return Node("symbol", name=name)


def negative(node: Node) -> Node:
    return number(-node.value) if node.kind == "number" else Node("product", (number(-1), node))


def quotient(top: Node, bottom: Node) -> Node:
    return Node("product", (top, reciprocal(bottom)))


def reciprocal(node: Node) -> Node:
    return Node("power", (node, number(-1)))


def _digits(node: Node) -> float:
    if node.kind == "number":
        return _log10(max(abs(node.value.numerator), node.value.denominator))
    inner = [part.digits for part in node.parts]
    if not inner:
        return 1.0
    if node.kind == "power":
        return _power_digits(node.parts[0], node.parts[1])
    if node.kind == "call":
        return _call_digits(node, inner)
    if node.kind == "product":
        return sum(inner)
    return sum(inner) if node.kind == "sum" else max(inner)


def _power_digits(base: Node, exponent: Node) -> float:
    if exponent.kind == "number":
        return max(base.digits, 0.5) * max(1.0, float(abs(exponent.value))) if exponent.digits < 9 else math.inf
    reach = _reach(exponent)
    return max(base.digits, 0.5) * 10**reach if reach < 9 else math.inf


def _reach(node: Node) -> float:
    """Decimal digits before the point of the absolute value, at most."""
    if node.kind == "number":
        return max(0.0, _log10(abs(node.value.numerator)) - _log10(node.value.denominator) + 0.01)
    if node.kind == "symbol":
        return 0.7  # constants and probes lie below 5, or nearly
    if node.kind == "product":
        return sum(_reach(part) for part in node.parts)
    if node.kind == "sum":
        return max(_reach(part) for part in node.parts) + math.log10(len(node.parts))
    if node.kind == "power" and node.parts[1].kind == "number" and node.parts[1].value > 0:
        return _reach(node.parts[0]) * float(node.parts[1].value) if node.parts[1].digits < 9 else math.inf
    return node.digits


def _call_digits(node: Node, inner: list[float]) -> float:
    name, largest = node.name, max(inner)
    if name in ("factorial", "binomial", "gamma"):
        reach = max(_reach(part) for part in node.parts)
        return 10**reach * max(reach, 1.0) if reach < 9 else math.inf
    if name in ("sinh", "cosh", "tanh"):
        return 10**largest if largest < 9 else math.inf
    if name in ("summation", "multiplication"):
        return largest * 4 + 4
    if name in ("sin", "cos", "tan", "sec", "csc", "cot", "mod", "floor", "ceiling"):
        return largest if largest < MAX_EXACT_DIGITS else math.inf  # reducing the argument needs all its digits
    return largest


def _log10(value: int) -> float:
    return max(value.bit_length(), 1) * math.log10(2)
