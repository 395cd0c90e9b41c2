"""Compares two answers by their structure, and leaves expressions to a function that compares values.

Three outcomes: True, False, and None where ``leaf`` could not tell. So the same rules serve the calling process,
whose leaf is exact and cheap, and the child, whose leaf evaluates.

Rules that are conventions, each the reading most favourable to an honest answer that names one value:
a unit, a percent sign or a degree sign that only one side writes is not compared (28% is 28, and also 0.28), nor a
base that only the reference writes;
top-level lists are unordered, brackets ordered; ``3, 2`` may stand for ``(3, 2)`` in that order; a set of one element
is that element; a column vector is the tuple of its numbers; a label (``x =``, ``m+n =``) may be left out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rewards.math_form import NoFormError, form_of, is_definite
from rewards.math_shape import is_endless, is_expression, is_label, shape, split_assignment
from rewards.math_tree import Node, negative, number, quotient
from rewards.unit import same_unit

MAX_UNORDERED = 64  # elements of a list or set that are matched one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """How two expressions are compared: ``equal``; ``factor`` gives the sign of the constant by which the second is a
    multiple of the first, 0.0 where there is no such constant, None where it cannot tell."""

    equal: Callable[[Node, Node], bool | None]
    factor: Callable[[Node, Node], float | None]


def exact_equal(expected: Node, given: Node) -> bool | None:
    """Equality by normal forms: certain, or None."""
    try:
        left, right = form_of(expected), form_of(given)
    except NoFormError:
        return None
    if left == right:
        return True
    return False if is_definite(left) and is_definite(right) else None


def exact_factor(expected: Node, given: Node) -> float | None:
    """The sign of the ratio of two normal forms: certain, or None."""
    try:
        left, right = form_of(expected), form_of(given)
    except NoFormError:
        return None
    if left and left.keys() == right.keys():
        factors = {right[monomial] / coefficient for monomial, coefficient in left.items()}
        if len(factors) == 1:
            return 1.0 if factors.pop() > 0 else -1.0
    return 0.0 if is_definite(left) and is_definite(right) else None


EXACT = Leaves(equal=exact_equal, factor=exact_factor)


def compare(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    """Whether ``given`` states what ``expected`` does."""
    if expected.kind == given.kind == "relation":
        outcome = _compare_relations(expected, given, leaves)
        if outcome is not False or not (expected.symbols == given.symbols or _has_function(expected, given)):
            return outcome
    return _compare(shape(expected), shape(given), leaves)


def _has_function(*nodes: Node) -> bool:
    return any(node.has("call") for node in nodes)


def _compare(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    if expected.kind == "relation" or given.kind == "relation":
        return _compare_relations(expected, given, leaves)
    if "quantity" in (expected.kind, given.kind):
        return _compare_quantities(expected, given, leaves)
    if "based" in (expected.kind, given.kind):
        return _compare_based(expected, given)
    if is_expression(expected) and is_expression(given):
        return _compare_expressions(expected, given, leaves)
    if expected.kind == given.kind:
        return _compare_alike(expected, given, leaves)
    return _compare_unlike(expected, given, leaves)


def _compare_expressions(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    if expected == given:
        return True
    if is_endless(expected) or is_endless(given):
        return False
    return leaves.equal(expected, given)


def _compare_alike(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    match expected.kind:
        case "words":
            return expected.name == given.name
        case "ellipsis":
            return True
        case "list" if expected.has("ellipsis") or given.has("ellipsis") or _names_each(expected, given):
            return _in_order(_values(expected, given), _values(given, expected), leaves)
        case "list" | "union":
            return _in_any_order(expected.parts, given.parts, leaves)
        case "set":
            return _in_any_order(_distinct(expected.parts, leaves), _distinct(given.parts, leaves), leaves)
        case "ratio":
            return _compare_ratios(expected, given, leaves)
    return expected.name == given.name and _in_order(expected.parts, given.parts, leaves)


def _compare_unlike(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    kinds = {expected.kind, given.kind}
    if kinds == {"list", "set"}:
        return _in_any_order(_distinct(expected.parts, leaves), _distinct(given.parts, leaves), leaves)
    if "set" in kinds and any(is_expression(node) for node in (expected, given)):
        solutions, value = (expected, given) if expected.kind == "set" else (given, expected)
        return len(solutions.parts) == 1 and _compare(solutions.parts[0], value, leaves)
    if kinds in ({"list", "group"}, {"matrix", "group"}):
        group = expected if expected.kind == "group" else given
        parts = [_entries(expected, group), _entries(given, group)]
        return group.name == "()" and _in_order(parts[0], parts[1], leaves)
    if _may_be_a_time(expected):
        return False
    if "ratio" in kinds and all(node.kind == "ratio" or is_expression(node) for node in (expected, given)):
        left, right = (
            quotient(*node.parts) if len(node.parts) == 2 and node.kind == "ratio" else node
            for node in (expected, given)
        )
        return is_expression(left) and is_expression(right) and _compare(left, right, leaves)
    return False


def _entries(node: Node, group: Node) -> Sequence[Node]:
    """Numbers of a vector or list that is to be a tuple."""
    if node.kind == "matrix":
        vector = len(node.parts) == 1 or all(len(row.parts) == 1 for row in node.parts)
        return [cell for row in node.parts for cell in row.parts] if vector else ()
    return _values(node, group)


def _names_each(expected: Node, given: Node) -> bool:
    """Whether one list labels its values (x = 3, y = 2) and the other does not: then order tells them apart."""
    labelled = [all(split_assignment(part) is not None for part in node.parts) for node in (expected, given)]
    return labelled[0] != labelled[1]


def _values(node: Node, other: Node) -> Sequence[Node]:
    pairs = [split_assignment(part) for part in node.parts]
    if any(pair is None for pair in pairs) or all(split_assignment(part) is not None for part in other.parts):
        return node.parts
    return [pair[1] for pair in pairs if pair is not None]


def _in_order(expected: Sequence[Node], given: Sequence[Node], leaves: Leaves) -> bool | None:
    if len(expected) != len(given):
        return False
    outcomes = {_compare(left, right, leaves) for left, right in zip(expected, given, strict=True)}
    return False if False in outcomes else None if None in outcomes else True


def _in_any_order(expected: Sequence[Node], given: Sequence[Node], leaves: Leaves) -> bool | None:
    if len(expected) != len(given):
        return False
    if len(expected) > MAX_UNORDERED:
        return _in_order(expected, given, leaves) or None
    left, unknown = list(given), False
    for part in expected:
        outcomes = [_compare(part, other, leaves) for other in left]
        if True in outcomes:
            del left[outcomes.index(True)]
        elif None in outcomes:
            unknown = True
        else:
            return False
    return None if unknown else True


def _distinct(parts: Sequence[Node], leaves: Leaves) -> list[Node]:
    kept: list[Node] = []
    for part in parts[: MAX_UNORDERED + 1]:
        if not any(_compare(part, other, leaves) for other in kept):
            kept.append(part)
    return kept + list(parts[MAX_UNORDERED + 1 :])


def _may_be_a_time(node: Node) -> bool:
    """Whether a ratio of whole numbers is not in lowest terms and reads as a time of day: ``12:30``."""
    if node.kind != "ratio" or len(node.parts) != 2 or any(part.kind != "number" for part in node.parts):
        return False
    hour, minute = (part.value for part in node.parts)
    if hour.denominator != 1 or minute.denominator != 1 or not (0 <= hour <= 24 and (minute == 0 or 10 <= minute < 60)):
        return False
    return math.gcd(int(hour), int(minute)) > 1


def _compare_ratios(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    if len(expected.parts) != len(given.parts):
        return False
    if _may_be_a_time(expected):
        return _in_order(expected.parts, given.parts, leaves)
    cross = [
        (Node("product", (left, given.parts[0])), Node("product", (right, expected.parts[0])))
        for left, right in zip(expected.parts, given.parts, strict=True)
    ]
    if not all(is_expression(part) for part in (*expected.parts, *given.parts)):
        return False
    return _in_order([pair[0] for pair in cross], [pair[1] for pair in cross], leaves)


def _compare_quantities(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    units = [node.name if node.kind == "quantity" else "" for node in (expected, given)]
    left, right = (node.parts[0] if node.kind == "quantity" else node for node in (expected, given))
    if not same_unit(*units):
        return False
    outcome = _compare(left, right, leaves)
    if outcome or units.count("percent") != 1 or not (is_expression(left) and is_expression(right)):
        return outcome
    hundredth = number(Fraction(1, 100))
    if units[0] == "percent":
        return _compare(Node("product", (hundredth, left)), right, leaves)
    return _compare(left, Node("product", (hundredth, right)), leaves)


def _compare_based(expected: Node, given: Node) -> bool:
    if expected.kind == given.kind:
        return (expected.value, expected.name) == (given.value, given.name)
    if given.kind == "based" and given.name != "10":
        return False
    return {expected.kind, given.kind} == {"based", "number"} and expected.value == given.value


def _compare_relations(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    named = split_assignment(expected)
    if given.kind != "relation":
        return False if named is None else _compare(shape(named[1]), given, leaves)
    if expected.kind != "relation":
        value = _stated(given, leaves)
        return value if isinstance(value, bool) or value is None else _compare(expected, shape(value), leaves)
    if expected == given:
        return True
    other = split_assignment(given)
    if named is not None and other is not None and _same_label(named[0], other[0]):
        return _all([_compare(shape(named[1]), shape(other[1]), leaves), _consistent(given, leaves)])
    if len(expected.parts) != 2 or len(given.parts) != 2:
        return _compare_chains(expected, given, leaves)
    return _compare_sides(expected, given, leaves)


def _same_label(first: Node, second: Node) -> bool:
    """``f(x) = 2x`` and ``y = 2x`` name one function; ``x = 5`` and ``y = 5`` are two statements."""
    return first == second or "call" in (first.kind, second.kind)


def _stated(given: Node, leaves: Leaves) -> Node | bool | None:
    """The value that an equation states: that of its label, or of a worked result such as ``2 + 2 = 4``."""
    if set(given.name.split()) != {"="}:
        return False
    named = split_assignment(given)
    if named is None and (given.symbols or given.parts[0] == given.parts[-1]):
        return False
    consistent = _consistent(given, leaves)
    return (named[1] if named else given.parts[-1]) if consistent else consistent


def _consistent(given: Node, leaves: Leaves) -> bool | None:
    """Whether the sides of ``x = 2 + 3 = 5`` agree, its label apart."""
    sides = given.parts[1:] if is_label(given.parts[0]) else given.parts
    if len(given.parts) == 2 and split_assignment(given) is not None:
        return True
    return _all([_compare(shape(side), shape(sides[-1]), leaves) for side in sides[:-1]])


def _compare_chains(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    if expected.name == given.name:
        return _in_order(expected.parts, given.parts, leaves)
    if given.name.split() == [turned.get(sign, sign) for sign in reversed(expected.name.split())]:
        return _in_order(expected.parts, given.parts[::-1], leaves)
    return False


def _compare_sides(expected: Node, given: Node, leaves: Leaves) -> bool | None:
    """Whether the differences of the sides are proportional, for inequalities by a positive factor."""
    if not all(is_expression(part) for part in (*expected.parts, *given.parts)):
        return _compare_chains(expected, given, leaves)
    (left, sign), (right, other) = _difference(expected), _difference(given)
    if sign != other or expected.symbols != given.symbols:
        return False
    factor = leaves.factor(left, right)
    return None if factor is None else factor > 0 or (factor < 0 and sign in ("=", "!="))


def _difference(relation: Node) -> tuple[Node, str]:
    """Left side less right, turned so that the sign is never a "greater"."""
    left, right = relation.parts
    if relation.name in (">", ">="):
        left, right = right, left
    sign = {">": "<", ">=": "<="}.get(relation.name, relation.name)
    return Node("sum", (left, negative(right))), sign


def _all(outcomes: Sequence[bool | None]) -> bool | None:
    return False if False in outcomes else None if None in outcomes else True
