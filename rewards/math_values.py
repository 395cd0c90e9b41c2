"""Equality of expressions by their values, at high precision: runs in the child process only.

Constants are compared to as many digits as their own numbers have, and more, so that neither ``1/2004!`` nor
``pi + 10^-80`` is rounded away. Expressions with symbols are compared at fixed rational points where the reference is
real (anywhere, where it is never real): two that agree at three points and differ at none are equal.
"""

import itertools
import math
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import mpmath

from rewards.math_form import NoFormError, form_of, rational
from rewards.math_tree import Node

MAX_WORKING_DIGITS = 1_500
_EARLY_DIGITS = (40, 80)
_MAX_ANGLE = 10**15
_GUARD_DIGITS = 40
_AGREED_POINTS = 3
_MAX_TERMS = 2_000  # of a finite sum, over all sums within one another
_MAX_MATRIX = 6
_POINTS = ("3/7", "-17/11", "29/13", "-5/23", "41/10", "7/19", "-31/9", "2/29", "103/17", "-1/37")
_UNDEFINED = (ZeroDivisionError, ValueError, ArithmeticError, TypeError, NotImplementedError, AttributeError)

Value = Any  # mpmath's mpf and mpc


class NoValueError(ValueError):
    """It has no value, or none that is evaluated here."""


def values_agree(expected: Node, given: Node) -> bool | None:
    """Whether both have the same value wherever the first has one; None where that cannot be told.

    ``log`` without a base is read as natural in both, and where that does not agree, as decimal in both.
    """
    needed = int(2 * (expected.digits + given.digits)) + _GUARD_DIGITS
    decimal = any(node.kind == "call" and node.name == "log" for side in (expected, given) for node in side.walk())
    for with_decimal in (False, True) if decimal else (False,):
        outcome = _agree(expected, given, needed, decimal=with_decimal)
        if outcome is not False:
            return outcome
    return False


def proportional(expected: Node, given: Node) -> float | None:
    """The sign (1.0 or -1.0) of the constant that ``expected`` times it is ``given``; 0.0 where there is none."""
    names = sorted(expected.symbols | given.symbols)
    ratios = []
    with mpmath.workdps(80):
        for point in _points(names, whole=_has_sums(expected, given)):
            left, right = _value_at(expected, point, False), _value_at(given, point, False)
            if left is None or right is None or left == 0:
                continue
            ratios.append(right / left)
        if len(ratios) < _AGREED_POINTS:
            return None
        first = ratios[0]
        same = first != 0 and all(abs(ratio - first) < abs(first) * mpmath.mpf(10) ** -50 for ratio in ratios)
        return (1.0 if mpmath.re(first) > 0 else -1.0) if same else 0.0


def _agree(expected: Node, given: Node, needed: int, *, decimal: bool) -> bool | None:
    """Few digits refute, all that are needed confirm: most answers that are wrong are wrong at the first point."""
    names = sorted(expected.symbols | given.symbols)
    if expected.symbols and given.symbols and expected.symbols.isdisjoint(given.symbols):
        return False
    points = _points(names, whole=_has_sums(expected, given)) if names else [{}]
    if _differ_early(expected, given, points, decimal):
        return False
    if needed > MAX_WORKING_DIGITS:
        return None
    with mpmath.workdps(needed):
        pairs = [(_value_at(expected, point, decimal), _value_at(given, point, decimal)) for point in points]
        defined = [(left, right) for left, right in pairs if left is not None]
        real = [pair for pair in defined if _is_real(pair[0])]
        enough = min(_AGREED_POINTS, len(points))
        told = real if len(real) >= enough else defined
        if len(told) < enough:
            return None
        return all(right is not None and _same(left, right, needed) for left, right in told)


def _differ_early(expected: Node, given: Node, points: list[dict[str, Value]], decimal: bool) -> bool:
    """Whether two values differ that more digits would not change; only where the reference is real."""
    for point in points[:4]:
        values = []
        for digits in _EARLY_DIGITS:
            with mpmath.workdps(digits):
                values.append((_value_at(expected, point, decimal), _value_at(given, point, decimal)))
        (left, right), (left_again, right_again) = values
        if left is not None and left_again is not None and right is right_again is None and _is_real(left):
            return True  # more digits give no value where there is none: the reference has one
        if left is None or right is None or left_again is None or right_again is None or not _is_real(left):
            continue
        if not (_is_near(left, left_again, 25) and _is_near(right, right_again, 25)):
            continue
        if not _is_near(left, right, 15):
            return True
    return False


def _is_near(left: Value, right: Value, digits: int) -> bool:
    return bool(abs(left - right) <= max(abs(left), abs(right)) * mpmath.mpf(10) ** -digits)


def _points(names: list[str], *, whole: bool) -> list[dict[str, Value]]:
    """``whole``: small whole numbers, for the bounds of sums. Else rationals, at half of the points all of them
    positive, so that roots and logarithms have values."""
    if whole:
        return [{name: mpmath.mpf(2 + at + 3 * place) for place, name in enumerate(names)} for at in range(6)]
    points = []
    for shift in range(len(_POINTS)):
        point = {}
        for place, name in enumerate(names):
            top, bottom = _POINTS[(shift + 3 * place) % len(_POINTS)].split("/")
            value = mpmath.mpf(int(top) * (2 * place + 1)) / int(bottom)
            point[name] = abs(value) if shift % 2 == 0 else value
        points.append(point)
    return points


def _has_sums(*nodes: Node) -> bool:
    return any(
        node.kind == "call" and node.name in ("summation", "multiplication") for side in nodes for node in side.walk()
    )


def _is_real(value: Value) -> bool:
    return bool(abs(mpmath.im(value)) <= abs(value) * mpmath.mpf(10) ** -20)


def _same(left: Value, right: Value, digits: int) -> bool:
    """Relative to the larger; both below what cancellation leaves are zero."""
    size, noise = max(abs(left), abs(right)), mpmath.mpf(10) ** (-digits + _GUARD_DIGITS // 2)
    if size == 0:
        return True
    if mpmath.isnan(size) or mpmath.isinf(size):
        return False
    return bool(abs(left - right) <= size * noise * 10**6 or size <= noise)


def _value_at(node: Node, point: dict[str, Value], decimal: bool) -> Value | None:
    try:
        value = _Evaluation(point, decimal).value(node)
    except _UNDEFINED:
        return None
    return None if mpmath.isnan(value) or mpmath.isinf(value) else value


class _Evaluation:
    """One evaluation of a tree at a point, in the precision that is set."""

    def __init__(self, point: dict[str, Value], decimal: bool) -> None:
        self.point = dict(point)
        self.decimal = decimal
        self.num_terms = 0

    def value(self, node: Node) -> Value:
        match node.kind:
            case "number":
                return mpmath.mpf(node.value.numerator) / node.value.denominator
            case "symbol":
                return self._symbol(node.name)
            case "sum":
                return mpmath.fsum([self.value(part) for part in node.parts])
            case "product":
                return mpmath.fprod([self.value(part) for part in node.parts])
            case "power":
                return self._power(node.parts[0], node.parts[1])
            case "call":
                return self._call(node)
            case "quantity" if node.name == "degree":
                return self.value(node.parts[0]) * mpmath.pi / 180
            case "quantity" if node.name == "percent":
                return self.value(node.parts[0]) / 100
        raise NoValueError(f"a {node.kind} has no value")

    def _symbol(self, name: str) -> Value:
        if name in self.point:
            return self.point[name]
        constants = {"pi": mpmath.pi, "e": mpmath.e, "i": mpmath.mpc(0, 1)}
        if name not in constants:
            raise NoValueError(f"{name} has no value")
        return +constants[name]

    def _power(self, base: Node, exponent: Node) -> Value:
        """Odd roots of negative numbers are real."""
        bottom = self.value(base)
        if exponent.kind == "number" and exponent.value.denominator == 1 and exponent.digits < 9:
            return bottom ** int(exponent.value)
        top = self.value(exponent)
        times = _constant(exponent)
        odd_root = times is not None and times.denominator % 2 == 1 and times.denominator > 1
        if odd_root and _is_real(bottom) and mpmath.re(bottom) < 0:
            return (-1) ** times.numerator * mpmath.power(-mpmath.re(bottom), top)
        if abs(bottom) > 0 and abs(mpmath.re(top) * mpmath.log(abs(bottom))) > 10**7:
            raise NoValueError("a power too large")
        return mpmath.power(bottom, top)

    def _call(self, node: Node) -> Value:
        name = node.name
        if name in ("summation", "multiplication"):
            return self._accumulate(node)
        if name == "det":
            return self._determinant(node.parts[0])
        if name in ("f()", "g()"):
            return self._unknown(name, [self.value(part) for part in node.parts])
        arguments = [self.value(part) for part in node.parts]
        if name == "log":
            return mpmath.log(arguments[0], 10) if self.decimal else mpmath.log(arguments[0])
        function = _FUNCTIONS.get(name)
        if function is None or (len(arguments) != 1 and name not in _MANY):
            raise NoValueError(f"{name} of {len(arguments)}")
        limit = 10**6 if name in _SLOW else _MAX_ANGLE if name in _PERIODIC else math.inf
        if any(abs(argument) > limit for argument in arguments):
            raise NoValueError(f"{name} of a number too large")
        return function(*arguments)

    def _unknown(self, name: str, arguments: list[Value]) -> Value:
        """A function that is only a name: any one will do, so long as it is the same on both sides."""
        seed = mpmath.mpf(zlib.crc32(name.encode()) % 97 + 3) / 101
        return mpmath.fsum([mpmath.sin(argument * seed + place) for place, argument in enumerate(arguments)]) + seed

    def _accumulate(self, node: Node) -> Value:
        index, low, high, body = node.parts
        first, last = self.value(low), self.value(high)
        if not (mpmath.isint(first) and mpmath.isint(last)) or last - first > _MAX_TERMS:
            raise NoValueError("bounds that are no small whole numbers")
        outer = self.point.get(index.name)
        values = []
        for at in range(int(first), int(last) + 1):
            self.num_terms += 1
            if self.num_terms > _MAX_TERMS:
                raise NoValueError("too many terms")
            self.point[index.name] = mpmath.mpf(at)
            values.append(self.value(body))
        self.point.pop(index.name, None)
        if outer is not None:
            self.point[index.name] = outer
        return mpmath.fsum(values) if node.name == "summation" else mpmath.fprod(values)

    def _determinant(self, matrix: Node) -> Value:
        if len(matrix.parts) > _MAX_MATRIX or any(len(row.parts) != len(matrix.parts) for row in matrix.parts):
            raise NoValueError("a determinant of no small square matrix")
        entries = [[self.value(cell) for cell in row.parts] for row in matrix.parts]
        total = mpmath.mpf(0)
        for order in itertools.permutations(range(len(entries))):
            inversions = sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))
            total += (-1) ** inversions * mpmath.fprod(
                [row[column] for row, column in zip(entries, order, strict=True)]
            )
        return total


def _extremum(choose: Callable[..., Value]) -> Callable[..., Value]:
    return lambda *values: choose(values)


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    **{name: getattr(mpmath, name) for name in ("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh")},
    **{name: getattr(mpmath, name) for name in ("asin", "acos", "atan", "floor", "gamma", "factorial", "binomial")},
    **{"ln": mpmath.log, "abs": abs, "ceiling": mpmath.ceil, "re": mpmath.re, "im": mpmath.im},
    **{"max": _extremum(max), "min": _extremum(min)},
}
_MANY = frozenset(("max", "min", "binomial"))
_PERIODIC = frozenset(("sin", "cos", "tan", "sec", "csc", "cot"))
_SLOW = frozenset(("gamma", "factorial", "binomial", "sinh", "cosh", "tanh"))


@lru_cache(maxsize=256)
def _constant(node: Node) -> Any:
    try:
        return rational(form_of(node))
    except NoFormError:
        return None
