r"""The child process of ``math_answer``: judges what needs more than exact arithmetic.

Run as ``python -m rewards.math_child`` by ``rewards.worker``. Expressions that the grammar reads are compared by their
values; what it does not read goes to math-verify. Both may be slow on model-written
text, so they run here, where CPU time and memory are bounded, and nowhere else.
"""

import functools
import logging

from rewards.math_compare import EXACT, Leaves, compare
from rewards.math_exact import read, spell_answer
from rewards.math_scanner import NotReadableError
from rewards.math_tree import Node
from rewards.worker import Message, serve

_EVALUATION_ERRORS = (
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    ArithmeticError,
    RecursionError,
)


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
    judge(r"\frac{x}{2}\sin 1", r"\sqrt{2}\pi x + \cos 1")
    judge(r"\int_0^1 x dx", r"\frac{\pi}{2}")
    judge(r"\int_0^1 x dx", r"x^{2} = 3.5")


def handle(request: Message) -> Message:
    """Answer one request: ``check`` a reference, ``verify`` an answer, or give a text's ``canonical`` form."""
    if request["op"] == "verify":
        return judge(request["reference"], request["answer"])
    if request["op"] == "check":
        return {"problem": _problem_of(request["reference"])}
    return {"canonical": spell_answer(request["text"])}


def judge(reference: str, answer: str) -> Message:
    """``outcome``: equal, different, unreadable (the answer), bad_reference."""
    expected, given = read(reference), read(answer)
    if expected is not None and given is not None:
        return {"outcome": "equal" if _by_value(expected, given) else "different", "reason": ""}
    return _by_algebra(reference, answer)


@functools.lru_cache(maxsize=1024)  # a group's answers repeat
def _by_value(expected: Node, given: Node) -> bool:
    """What values cannot tell (both without a value, say) is not equal: only equality needs to be shown."""
    return bool(compare(expected, given, Leaves(equal=_equal, factor=_factor)))


def _equal(expected: Node, given: Node) -> bool | None:
    from rewards.math_values import values_agree

    outcome = EXACT.equal(expected, given)
    return values_agree(expected, given) if outcome is None else outcome


def _factor(expected: Node, given: Node) -> float | None:
    from rewards.math_values import proportional

    outcome = EXACT.factor(expected, given)
    return proportional(expected, given) if outcome is None else outcome


def _by_algebra(reference: str, answer: str) -> Message:
    from rewards.math_symbolic import is_equal_symbolic, parse_symbolic

    try:
        expected = parse_symbolic(reference)
    except NotReadableError as error:
        return {"outcome": "bad_reference", "reason": str(error)}
    try:
        given = parse_symbolic(answer)
    except NotReadableError as error:
        return {"outcome": "unreadable", "reason": str(error)}
    try:
        same = is_equal_symbolic(expected, given)
    except _EVALUATION_ERRORS as error:
        return {"outcome": "unreadable", "reason": f"comparing it failed: {type(error).__name__}"}
    return {"outcome": "equal" if same else "different", "reason": ""}


def _problem_of(reference: str) -> str | None:
    from rewards.math_symbolic import parse_symbolic

    if read(reference) is not None:
        return None
    try:
        parse_symbolic(reference)
    except NotReadableError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
