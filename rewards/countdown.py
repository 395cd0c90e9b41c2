"""Countdown, scored as TinyZero does: an equation that uses each given number once and reaches the target.

1.0 where it does, 0.1 where the answer is an equation that parses but is wrong, 0 otherwise. The parser is our own
and evaluates in fractions: model-written text never reaches ``eval``.
"""

import operator
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from rewards.base import InlineVerifier
from rewards.extract import extractor
from rewards.number import parse_number, shorten
from rewards.verdict import Question, Status, Verdict, failed, unparsed

PARSED_SCORE = 0.1
MAX_CHARACTERS = 300
MAX_DEPTH = 20  # brackets and signs within one another
_TOKEN = re.compile(r"\s*(?:([0-9]{1,12})(?![0-9])|([-+*/()]))")
_SYMBOLS = str.maketrans({"×": "*", "·": "*", "÷": "/", "\u2212": "-", "[": "(", "]": ")"})
_LATEX = (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\left", ""), ("\\right", ""))
_OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


class NotAnExpressionError(ValueError):
    """The text is no arithmetic of whole numbers, ``+ - * /`` and brackets, or divides by zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """An arithmetic expression's exact value and the numbers it is written with, in order.

    >>> parse_expression("(3 + 5) / 2")
    Expression(value=Fraction(4, 1), numbers=(3, 5, 2))
    """

    value: Fraction
    numbers: tuple[int, ...]


def parse_expression(text: str) -> Expression:
    """Evaluate ``text`` exactly.

    Raises:
        NotAnExpressionError: it is no such expression, or longer or deeper than the caps.
    """
    if len(text) > MAX_CHARACTERS:
        raise NotAnExpressionError(f"longer than {MAX_CHARACTERS} characters")
    parser = _Parser(tokens=_tokenize(text))
    value = parser.sum(depth=0)
    if parser.tokens:
        raise NotAnExpressionError(f"unexpected {parser.tokens[-1]!r}")
    return Expression(value=value, numbers=tuple(parser.numbers))


class CountdownVerifier(InlineVerifier):
    """Reads the columns ``nums`` (whole numbers) and ``target``; without ``target`` the reference is the target."""

    name = "countdown"

    def __init__(self, *, extract: str = "answer_tags") -> None:
        """Raises ValueError where ``extract`` names no search of ``rewards.extract``."""
        self.extract = extract
        self._find = extractor(extract)

    def check_reference(self, reference: str) -> str | None:
        if parse_number(reference) is None:
            return f"{shorten(reference)} is not a number: the reference of a Countdown problem is its target"
        return None

    def verify(self, completion: str, question: Question) -> Verdict:
        started = time.perf_counter()
        try:
            numbers, target = _read_columns(question)
        except ValueError as error:
            return failed(str(error))
        span = self._find(completion)
        if span is None:
            return unparsed(f"no answer by {self.extract!r}")
        equation = _normalize(span)
        try:
            problem = _problem_with(equation, numbers, target)
        except NotAnExpressionError as error:
            return unparsed(f"{shorten(span)}: {error}")
        score, status = (1.0, Status.CORRECT) if problem is None else (PARSED_SCORE, Status.WRONG)
        seconds = time.perf_counter() - started
        return Verdict(score=score, status=status, extracted=equation, reason=problem or "", seconds=seconds)


@dataclass(slots=True, kw_only=True)
class _Parser:
    """Recursive descent over ``tokens``, which are in reverse so that the next one is popped from the end."""

    tokens: list[str]
    numbers: list[int] = field(default_factory=list)

    def sum(self, *, depth: int) -> Fraction:
        value = self.product(depth=depth)
        while self.tokens and self.tokens[-1] in "+-":
            value = _OPERATIONS[self.tokens.pop()](value, self.product(depth=depth))
        return value

    def product(self, *, depth: int) -> Fraction:
        value = self.factor(depth=depth)
        while self.tokens and self.tokens[-1] in "*/":
            symbol, right = self.tokens.pop(), self.factor(depth=depth)
            if symbol == "/" and right == 0:
                raise NotAnExpressionError("division by zero")
            value = _OPERATIONS[symbol](value, right)
        return value

    def factor(self, *, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise NotAnExpressionError(f"deeper than {MAX_DEPTH} levels")
        token = self.tokens.pop() if self.tokens else "the end"
        if token in ("+", "-"):
            value = self.factor(depth=depth + 1)
            return -value if token == "-" else value
        if token == "(":
            return self._bracket(depth=depth + 1)
        if not token[0].isdigit():
            raise NotAnExpressionError(f"unexpected {token!r}")
        self.numbers.append(int(token))
        return Fraction(int(token))

    def _bracket(self, *, depth: int) -> Fraction:
        value = self.sum(depth=depth)
        if not self.tokens or self.tokens.pop() != ")":
            raise NotAnExpressionError("a bracket is not closed")
        return value


def _tokenize(text: str) -> list[str]:
    tokens: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotAnExpressionError(f"{text[at : at + 10]!r} is no arithmetic")
        tokens.append(match.group(1) or match.group(2))
        at = match.end()
    return tokens[::-1]


def _normalize(span: str) -> str:
    if len(span) > MAX_CHARACTERS:
        return span
    for written, meant in _LATEX:
        span = span.replace(written, meant)
    return span.translate(_SYMBOLS).strip(" $`*.\n")


def _problem_with(equation: str, numbers: list[int], target: Fraction) -> str | None:
    """Why the equation is wrong, in one line; None where it is right. Right sides, if any, must hold too."""
    if len(equation) > MAX_CHARACTERS:
        raise NotAnExpressionError(f"longer than {MAX_CHARACTERS} characters")
    expression, *others = [parse_expression(side) for side in equation.split("=")]
    if any(other.value != expression.value for other in others):
        return "its sides differ"
    if sorted(expression.numbers) != sorted(numbers):
        return f"uses {list(expression.numbers)}, not each of {numbers} once"
    if expression.value != target:
        return f"gives {expression.value}, not {target}"
    return None


def _read_columns(question: Question) -> tuple[list[int], Fraction]:
    """Raises ValueError naming the column that is missing or holds something else."""
    nums = question.columns.get("nums")
    if not isinstance(nums, Iterable) or isinstance(nums, str | bytes):
        raise ValueError(f"column 'nums' = {shorten(repr(nums))}: a list of whole numbers is needed")
    try:
        numbers = [operator.index(number) for number in nums]
    except TypeError as error:
        raise ValueError(f"column 'nums' = {shorten(repr(nums))}: a list of whole numbers is needed") from error
    target = parse_number(str(question.columns.get("target", question.reference)))
    if target is None:
        raise ValueError(f"column 'target' = {question.columns.get('target')!r}: a number is needed")
    return numbers, target
