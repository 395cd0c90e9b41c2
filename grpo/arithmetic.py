"""Chained arithmetic: the generated task of the quickstart, and the documents its base model learns from.

A problem is a sum or difference of numbers, brackets and small products, such as ``14-(3+5)+2*6``.
Worked in steps, each step rewrites the expression with one operation done, and every step is easy; jumping
to the answer is not. Every intermediate value lies between 0 and 60.

The split of a problem follows from its text alone, so no held-out problem can reach training by any seed.
"""

import hashlib
import random
from collections.abc import Sequence

MAX_OPERAND = 12
MAX_FACTOR = 6
MAX_VALUE = 60
HELD_OUT_SHARE = 10  # one problem in ten is held out

Item = tuple[str, ...]  # one number, or number operator number in a bracket or a product


def is_held_out(expression: str) -> bool:
    """Whether the expression belongs to the held-out split (a hash of its text; one in ten does)."""
    digest = hashlib.sha256(expression.encode()).digest()
    return digest[0] * 256 + digest[1] < 65536 // HELD_OUT_SHARE


def solve_in_steps(expression: str) -> list[str]:
    """Every rewriting of ``expression`` down to its value: brackets first, then products, then left to right.

    >>> solve_in_steps("14-(3+5)+2*6")
    ['14-8+2*6', '14-8+12', '6+12', '18']

    Raises:
        ValueError: an intermediate value lies outside 0..60.
    """
    tokens = tokenize(expression)
    steps = []
    while len(tokens) > 1:
        tokens = _reduce_once(tokens)
        steps.append("".join(tokens))
    return steps


def tokenize(expression: str) -> list[str]:
    """Split into numbers, operators and brackets: ``"12-(3+4)"`` gives ``["12", "-", "(", "3", "+", "4", ")"]``."""
    tokens: list[str] = []
    for char in expression:
        if char.isdigit() and tokens and tokens[-1].isdigit():
            tokens[-1] += char
        else:
            tokens.append(char)
    return tokens


def _reduce_once(tokens: list[str]) -> list[str]:
    if "(" in tokens:
        start = tokens.index("(")
        return [*tokens[:start], _apply(tokens[start + 1 : start + 4]), *tokens[start + 5 :]]
    at = tokens.index("*") if "*" in tokens else 1
    return [*tokens[: at - 1], _apply(tokens[at - 1 : at + 2]), *tokens[at + 2 :]]


def _apply(operation: Sequence[str]) -> str:
    left, operator, right = int(operation[0]), operation[1], int(operation[2])
    value = {"+": left + right, "-": left - right, "*": left * right}[operator]
    if not 0 <= value <= MAX_VALUE:
        raise ValueError(f"{left}{operator}{right} = {value} lies outside 0..{MAX_VALUE}")
    return str(value)


def random_expression(rng: random.Random, num_numbers: int) -> str:
    """One expression of ``num_numbers`` numbers whose every intermediate value lies in 0..60."""
    while True:
        expression = _random_candidate(rng, num_numbers)
        try:
            solve_in_steps(expression)
        except ValueError:
            continue
        return expression


def _random_candidate(rng: random.Random, num_numbers: int) -> str:
    items: list[str] = []
    left = num_numbers
    while left:
        kind = rng.random()
        if left >= 2 and items and kind < 0.2:
            items.append(f"({rng.randint(1, MAX_OPERAND)}{rng.choice('+-')}{rng.randint(1, MAX_OPERAND)})")
            left -= 2
        elif left >= 2 and kind > 0.8 and num_numbers > 2:
            items.append(f"{rng.randint(2, MAX_FACTOR)}*{rng.randint(2, MAX_FACTOR)}")
            left -= 2
        else:
            items.append(str(rng.randint(1, MAX_OPERAND)))
            left -= 1
    if len(items) == 1:
        return items[0]
    return items[0] + "".join(rng.choice("+-") + item for item in items[1:])


def problem_at(index: int, *, seed: int, held_out: bool, min_numbers: int = 3, max_numbers: int = 5) -> tuple[str, str]:
    """The ``index``-th problem of a split and its answer, a pure function of its arguments.

    >>> problem_at(0, seed=0, held_out=False) == problem_at(0, seed=0, held_out=False)
    True
    """
    rng = random.Random(f"chained-arithmetic/{seed}/{held_out}/{index}")
    while True:
        expression = random_expression(rng, rng.randint(min_numbers, max_numbers))
        if is_held_out(expression) == held_out:
            return expression, solve_in_steps(expression)[-1]
