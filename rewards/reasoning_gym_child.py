"""The child process of ``reasoning_gym``: scores an answer with its task's own function.

Run as ``python -m rewards.reasoning_gym_child`` by ``rewards.pool``. The package's scorers are library code on hostile
text: some take minutes on a long power, and some hand the answer to ``eval``, their own or that of sympy's parser,
which would run any program written as an answer. So before a scorer runs, the package's ``eval`` is replaced by
one for literals and arithmetic, and the parser refuses what is no mathematics. What they refuse is, to the scorer,
an answer that cannot be read.
"""

import ast
import builtins
import functools
import keyword
import logging
import math
import re
import sys
import tokenize
from collections.abc import Callable
from typing import Any

from rewards.worker import Message, serve

MAX_EXPRESSION = 2_000  # characters handed to sympy's parser
SCORER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
_PACKAGE = "reasoning_gym"
_OF_TUPLES = ("arc_agi", "rearc")  # compare a board with nested tuples, which JSON has turned into lists
_WARM_UP = ("simple_equations", "countdown")
_LITERALS = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Load),
    *(ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator, ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop),
)
_MATHEMATICS = re.compile(r"[\w\s+\-*/^%().,=<>!|]*")
_NAME = re.compile(r"[^\W\d]\w*")
_ATTRIBUTE = re.compile(r"\.\s*[^\W\d]")
_FUNCTION_NAMES = """
sin cos tan cot sec csc asin acos atan acot sinh cosh tanh asinh acosh atanh exp log ln sqrt cbrt Abs pi oo erf sign
Rational Integer
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())

Entry = dict[str, Any]
Scorer = Callable[..., Any]


class RefusedError(ValueError):
    """The text is no literal, no arithmetic or no mathematics, and so is not evaluated."""


class UnknownTaskError(ValueError):
    """The package has no task of that name."""


def main() -> None:
    logging.disable(logging.CRITICAL)
    try:
        guard()
        for task in _WARM_UP:
            scorer_of(task)
    except ImportError as error:
        serve(handle, ready={"error": f"{error}. Fix: pip install reasoning-gym"})
        return
    serve(handle, ready={"ready": True})


def handle(request: Message) -> Message:
    """``score`` from 0 to 1, or ``unreadable`` (the scorer fails on the answer only), or ``error`` (on any)."""
    entry = dict(request["entry"])
    task = request["task"]
    try:
        scorer = scorer_of(task)
    except UnknownTaskError as error:
        return {"error": str(error)}
    if task in _OF_TUPLES:
        entry["metadata"] = {key: _tupled(value) for key, value in entry["metadata"].items()}
    try:
        return _scored(scorer(answer=request["answer"], entry=entry))
    except SCORER_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"[:300]
    return {"unreadable": reason} if _works(scorer, entry) else {"error": reason}


def guard() -> None:
    """Import the package with its ways to run text as a program closed.

    Raises:
        ImportError: the package is missing.
    """
    __import__(_PACKAGE)
    import sympy
    from sympy.parsing import sympy_parser

    unchecked = sympy_parser.parse_expr
    checked = functools.partial(parse_mathematics, unchecked)
    sympy_parser.parse_expr = checked  # which sympy.sympify looks up at each call
    sympy.parse_expr = checked
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE:
            vars(module)["eval"] = evaluate_literal
            if vars(module).get("parse_expr") is unchecked:
                vars(module)["parse_expr"] = checked


def evaluate_literal(source: str, *_: object) -> object:
    """What the package's own uses of ``eval`` are for: lists, numbers and the arithmetic of numbers.

    >>> evaluate_literal("[1 + 1, 'a']")
    [2, 'a']

    Raises:
        RefusedError: anything else stands in it.
        SyntaxError: it cannot be read.
    """
    tree = ast.parse(source.strip(), mode="eval")
    for node in ast.walk(tree):
        if not isinstance(node, _LITERALS):
            raise RefusedError(f"{type(node).__name__} is no literal and no arithmetic")
    return builtins.eval(compile(tree, "<answer>", "eval"), {"__builtins__": {}})


def parse_mathematics(parse: Callable[..., Any], text: str, *args: Any, **kwargs: Any) -> Any:
    """sympy's parser, which evaluates its text as a program, on mathematics alone: no attributes, no strings, no
    names but those of functions, and of variables of a letter with an index.

    Raises:
        RefusedError: anything else stands in it.
    """
    if isinstance(text, str) and text.isidentifier():
        return parse(text, *args, **kwargs)  # sympy's own modules do this; a lone name calls nothing
    if not isinstance(text, str) or len(text) > MAX_EXPRESSION or not _MATHEMATICS.fullmatch(text):
        raise RefusedError("no mathematics")
    if _ATTRIBUTE.search(text) or any(not _is_mathematical(name) for name in _NAME.findall(text)):
        raise RefusedError("no mathematics: a name that is none of a function or a variable")
    return parse(text, *args, **kwargs)


def _is_mathematical(name: str) -> bool:
    if name in _FUNCTIONS:
        return True
    return (
        name[0].isalpha() and all(letter.isdigit() for letter in name[1:].lstrip("_")) and not keyword.iskeyword(name)
    )


@functools.cache
def scorer_of(task: str) -> Scorer:
    """The scoring function of a task, by the package's name for it.

    Raises:
        UnknownTaskError: it has none of that name.
    """
    from reasoning_gym.factory import DATASETS, get_score_answer_fn

    if task not in DATASETS:
        raise UnknownTaskError(f"reasoning-gym has no task {task!r}")
    scorer: Scorer = get_score_answer_fn(task)
    return scorer


def _scored(score: object) -> Message:
    value = float(score)  # type: ignore[arg-type]  # numpy's numbers and booleans too
    if not math.isfinite(value):
        raise ValueError(f"the scorer returned {value}")
    return {"score": value}


def _works(scorer: Scorer, entry: Entry) -> bool:
    """Whether the scorer can score the entry's own answer: then it is the answer given that it fails on."""
    try:
        _scored(scorer(answer=entry["answer"], entry=entry))
    except SCORER_ERRORS:
        return False
    return True


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
