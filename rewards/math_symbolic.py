r"""What our own grammar does not read (integrals, limits, cases, infinite sums) goes to math-verify and sympy.

Runs in the child process only: anything here may hang or fill memory on model-written text. Own rules stand where
math-verify 0.9 is known to be wrong: an equation is no answer to a question for a value, unless it assigns one; and
nothing is evaluated that would write out numbers of more than ``MAX_DIGITS`` digits.
"""

import functools
import math
from typing import Any

from rewards.math_scanner import NotReadableError

MAX_DIGITS = 20_000  # decimal digits of any number that evaluation may have to write out
_MAX_FACTORIAL = 10_000
_FLOAT_ROUNDING = 30  # digits: an approximation is not the value
_NUMERIC_PRECISION = 60

Expr = Any  # sympy has no types to check against


@functools.lru_cache(maxsize=512)  # a group's answers share their reference
def parse_symbolic(text: str) -> Expr:
    """The expression that a tidy text writes, unevaluated.

    Raises:
        NotReadableError: it cannot be read, or must not be evaluated.
    """
    import math_verify

    found = math_verify.parse(
        f"\\boxed{{{text}}}",
        [math_verify.LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    if not found or isinstance(found[0], str):
        raise NotReadableError("it cannot be read as mathematics")
    try:
        digits = num_digits(found[0])
    except RecursionError:
        raise NotReadableError("it nests too deeply") from None
    if digits > MAX_DIGITS:
        raise NotReadableError(f"it would write out numbers of more than {MAX_DIGITS} digits")
    return found[0]


def is_equal_symbolic(expected: Expr, given: Expr) -> bool:
    """math-verify's comparison, unless the answer states no value where one is asked for."""
    import math_verify

    if _states_no_value(expected, given):
        return False
    return bool(
        math_verify.verify(
            expected,
            given,
            float_rounding=_FLOAT_ROUNDING,
            numeric_precision=_NUMERIC_PRECISION,
            timeout_seconds=None,
        )
    )


def num_digits(expression: Expr) -> float:
    """An upper estimate of the decimal digits that evaluating ``expression`` writes out; infinite where unknown.

    Nothing is evaluated. A symbol counts as nothing, so ``x^20`` is small; an exponent counts as what it does to
    its base.
    """
    import sympy

    if isinstance(expression, sympy.Rational):
        return float(max(abs(expression.p), expression.q).bit_length() * math.log10(2))
    parts = [num_digits(part) for part in getattr(expression, "args", ()) if isinstance(part, sympy.Basic)]
    if not parts:
        return 1.0
    if isinstance(expression, sympy.Pow):
        return _power_digits(expression.exp, *parts)
    if isinstance(expression, sympy.factorial | sympy.factorial2 | sympy.gamma | sympy.binomial):
        return _factorial_digits(max(parts))
    return sum(parts) if isinstance(expression, sympy.Mul) else max(parts) + math.log10(len(parts))


def _power_digits(exponent: Expr, base_digits: float, exponent_digits: float) -> float:
    if exponent.free_symbols:
        return max(base_digits, exponent_digits)
    if exponent_digits > math.log10(MAX_DIGITS) + 1:
        return math.inf
    times = abs(exponent.p) / exponent.q if exponent.is_Rational else 10**exponent_digits
    return max(base_digits, 0.1) * max(float(times), 1.0)


def _factorial_digits(argument_digits: float) -> float:
    argument = 10 ** min(argument_digits, 300.0)
    return math.inf if argument > _MAX_FACTORIAL else argument * max(math.log10(argument), 1.0)


def _states_no_value(expected: Expr, given: Expr) -> bool:
    """Whether a value was asked for and the answer is an equation that assigns none: ``3x - y + 13 = 0``."""
    import sympy
    from math_verify.grader import is_assignment_relation, is_relation
    from sympy.core.function import AppliedUndef

    if is_relation(expected) or not isinstance(given, sympy.Eq):
        return False
    if given.lhs == given.rhs or not given.free_symbols:
        return True
    return not (is_assignment_relation(given) or isinstance(given.lhs, AppliedUndef | sympy.Tuple | sympy.Interval))
