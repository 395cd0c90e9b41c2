r"""The child process of ``math_answer``: parses and compares mathematics with math-verify and sympy.

Run as ``python -m rewards.math_child`` by ``rewards.worker``. Anything here may hang or fill memory on model-written
text, so nothing here runs anywhere else. Own rules stand where math-verify 0.9 is known to be wrong:

- numbers that it rounds to zero (``1/2004!`` against ``1/2006!``) are compared relative to their size;
- an equation is no answer to a question for a value, unless it assigns one (``x = 3``);
- plain-text ``pi`` and ``sqrt(...)`` are read as mathematics;
- functions equal wherever the reference is real are equal (``sqrt(1/n)`` and ``1/sqrt(n)``).
"""

import functools
import hashlib
import logging
import math
import re
from typing import Any

from rewards.worker import Message, serve

MAX_DIGITS = 20_000  # decimal digits of any number that evaluation may have to write out
MAX_PRINTED_DIGITS = 2_000
MAX_CANONICAL = 400  # characters
_MAX_FACTORIAL = 10_000
_PRECISION = 40  # digits of numeric probes
_AGREES = 1e-25  # relative difference
_DIFFERS = 1e-12
_NEAR_ZERO = 1e-30
_PROBES = ((3, 7), (17, 11), (-5, 13), (-23, 9), (41, 10))
_EVALUATION_ERRORS = (
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
    NotImplementedError,
    ArithmeticError,
    RecursionError,
)

_TO_LATEX = (
    (re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"(?<![\\A-Za-z])sqrt\s*\(([^()]{1,200})\)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(exp|sin|cos|tan|log|ln)(?=\s*\()"), r"\\\1"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\*"), r"\\cdot "),
    (re.compile(r"\\text\s*\{[^{}]*(?:\bis|\bare|=|:)\s*\}"), ""),
)

Expr = Any  # sympy has no types to check against


class UnreadableError(ValueError):
    """The text is no mathematics that the parser knows."""


class TooLargeError(ValueError):
    """Evaluating it would write out numbers of more than ``MAX_DIGITS`` digits."""


def main() -> None:
    logging.disable(logging.CRITICAL)
    try:
        import math_verify  # noqa: F401 - the slow import, before the limits and the clock
    except ImportError as error:
        serve(handle, ready={"error": f"{error}. Fix: pip install math-verify"})
        return
    _warm_up()
    serve(handle, ready={"ready": True})


def _warm_up() -> None:
    """Parsers and tables are built at first use, in a second of work that no answer should be charged with."""
    compare(r"\frac{x}{2}", r"\sqrt{2}\pi x + 1")
    compare(r"\frac{\pi}{2}", "3.5")
    canonical(r"x^{2} = \{1, 2\}")


def handle(request: Message) -> Message:
    """Answer one request: ``check`` a reference, ``verify`` an answer, or give a text's ``canonical`` form."""
    if request["op"] == "verify":
        return compare(request["reference"], request["answer"])
    if request["op"] == "check":
        return check(request["reference"])
    return {"canonical": canonical(request["text"])}


def check(reference: str) -> Message:
    try:
        parse(reference)
    except (UnreadableError, TooLargeError) as error:
        return {"problem": str(error)}
    return {"problem": None}


def compare(reference: str, answer: str) -> Message:
    """``outcome``: equal, different, unreadable or too_large (the answer), bad_reference."""
    try:
        expected = parse(reference)
    except (UnreadableError, TooLargeError) as error:
        return {"outcome": "bad_reference", "reason": str(error)}
    try:
        given = parse(answer)
    except UnreadableError as error:
        return {"outcome": "unreadable", "reason": str(error)}
    except TooLargeError as error:
        return {"outcome": "too_large", "reason": str(error)}
    return {"outcome": "equal" if is_equal(expected, given) else "different", "reason": ""}


def canonical(text: str) -> str | None:
    """One spelling of what ``text`` means, None where it is not cheap to find. Equal answers often share it."""
    try:
        expression = parse(text)
        if _is_heavy(expression) or num_digits(expression) > MAX_PRINTED_DIGITS:
            return None
        spelled = str(expression.doit())
    except _EVALUATION_ERRORS:
        return None
    if len(spelled) <= MAX_CANONICAL:
        return spelled
    return spelled[:MAX_CANONICAL] + "#" + hashlib.sha256(spelled.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=512)  # a group's answers share their reference
def parse(text: str) -> Expr:
    """The expression that ``text`` (LaTeX or plain) writes, unevaluated.

    Raises:
        UnreadableError: it cannot be read.
        TooLargeError: it must not be evaluated.
    """
    import math_verify

    for pattern, latex in _TO_LATEX:
        text = pattern.sub(latex, text)
    found = math_verify.parse(
        f"\\boxed{{{text}}}",
        [math_verify.LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    if not found:
        raise UnreadableError("it cannot be read as mathematics")
    try:
        digits = num_digits(found[0])
    except RecursionError:
        raise TooLargeError("it nests too deeply") from None
    if digits > MAX_DIGITS:
        raise TooLargeError(f"it would write out numbers of more than {MAX_DIGITS} digits")
    return found[0]


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


def is_equal(expected: Expr, given: Expr) -> bool:
    import math_verify

    if _states_no_value(expected, given):
        return False
    probed = _probe(expected, given)
    if probed is not None:
        return probed
    return bool(math_verify.verify(expected, given, timeout_seconds=None))


def _states_no_value(expected: Expr, given: Expr) -> bool:
    """Whether a value was asked for and the answer is an equation that assigns none: ``3x - y + 13 = 0``, ``x = x``."""
    import sympy
    from math_verify.grader import is_assignment_relation, is_relation
    from sympy.core.function import AppliedUndef

    if is_relation(expected) or not isinstance(given, sympy.Eq):
        return False
    if given.lhs == given.rhs:
        return True
    if not given.free_symbols:  # a worked result, 2 + 2 = 4: true, or worth nothing
        return not is_equal(given.lhs, given.rhs)
    return not (is_assignment_relation(given) or isinstance(given.lhs, AppliedUndef | sympy.Tuple | sympy.Interval))


def _probe(expected: Expr, given: Expr) -> bool | None:
    """Equality of two expressions by value at fixed points, None where that decides nothing."""
    import sympy

    both = (expected, given)
    if not all(isinstance(side, sympy.Expr) for side in both) or any(_is_heavy(side) for side in both):
        return None
    if expected.free_symbols != given.free_symbols or expected.has(sympy.Float) or given.has(sympy.Float):
        return None
    symbols = sorted(expected.free_symbols, key=lambda symbol: str(symbol.name))
    try:
        if not symbols:
            return _compare_constants(expected, given)
        return _compare_functions(expected, given, symbols)
    except _EVALUATION_ERRORS:
        return None


def _compare_constants(expected: Expr, given: Expr) -> bool | None:
    left, right = expected.doit(), given.doit()
    if left.is_Rational and right.is_Rational:
        return bool(left == right)
    return _is_close(left.evalf(_PRECISION), right.evalf(_PRECISION))


def _compare_functions(expected: Expr, given: Expr, symbols: list[Expr]) -> bool | None:
    """Points where the reference is not real say nothing; two that agree are needed."""
    import sympy

    num_agreed = 0
    for shift in range(len(_PROBES)):
        point = {
            symbol: sympy.Rational(*_PROBES[(shift + place) % len(_PROBES)]) * (place + 1)
            for place, symbol in enumerate(symbols)
        }
        left, right = (side.evalf(_PRECISION, subs=point) for side in (expected, given))
        if not left.is_Float:
            continue
        close = _is_close(left, right)
        if not close:
            return close
        num_agreed += 1
    return True if num_agreed >= 2 else None


def _is_close(left: Expr, right: Expr) -> bool | None:
    if not (left.is_Float and right.is_Float) or max(abs(left), abs(right)) < _NEAR_ZERO:
        return None
    if min(abs(left), abs(right)) < _NEAR_ZERO:
        return None  # zero, or what is left of a cancellation
    difference = abs(left - right) / max(abs(left), abs(right))
    if difference > _DIFFERS:
        return False
    return True if difference < _AGREES else None


def _is_heavy(expression: Expr) -> bool:
    """Whether evaluation is more than arithmetic, or the parser's marks (percent) must stay as they are."""
    import sympy
    from sympy.core.function import AppliedUndef

    heavy = (
        sympy.Integral,
        sympy.Sum,
        sympy.Product,
        sympy.Limit,
        sympy.Derivative,
        sympy.UnevaluatedExpr,
        AppliedUndef,
    )
    return isinstance(expression, sympy.MatrixBase) or bool(expression.has(*heavy))


if __name__ == "__main__":
    main()
