"""Verifiers never raise on any text, score within their range, and repeat themselves."""

import time
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewards import MathAnswerVerifier, Question, Status, make_verifier
from rewards.countdown import NotAnExpressionError, parse_expression
from rewards.extract import EXTRACTORS
from rewards.number import parse_number

QUESTION = Question(text="q", reference="24", columns={"nums": [2, 12], "target": 24})
PIECES = [
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        r"\boxed{",
        "}",
        "{",
        "####",
        "final answer is ",
        r"\frac",
        "24",
        "-",
    ),
    *(
        "12",
        "2",
        "*",
        "/",
        "(",
        ")",
        "=",
        ".",
        ",",
        " ",
        "\n",
        " or ",
        "$",
        "%",
        "^",
        "!",
        r"\sqrt",
        r"\pi",
        "x",
        "é",
        "\x00",
    ),
]
FLOODS = (
    "{",
    "}",
    r"\boxed{",
    r"\boxed{1},",
    ",234",
    "$",
    "<answer>",
    "</answer>",
    "<answer>1</answer>",
    "(",
    "1 ",
    "**",
)
FLOODS = (*FLOODS, r"\frac", "is ", "½", "^", "-", "####", "final answer is ", r"\text{", "a", ".", "1/", "\u0664")
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
_LEAVES = st.sampled_from(["x", "y", "2", "7", "0.5", r"\pi", "e", "i", r"\sqrt{3}", r"\frac{1}{3}", "a_1"])
MATHEMATICS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda parts: rf"({parts[0]} + {parts[1]})"),
        st.tuples(inner, inner).map(lambda parts: rf"({parts[0]})({parts[1]})"),
        st.tuples(inner, inner).map(lambda parts: rf"\frac{{{parts[0]}}}{{{parts[1]} + 9}}"),
        inner.map(lambda part: rf"({part})^2"),
        inner.map(lambda part: rf"\sqrt{{{part}}}"),
        inner.map(lambda part: rf"\sin({part})"),
    ),
    max_leaves=6,
)
ARGUMENTS: dict[str, list[dict[str, object]]] = {
    "number": [{"extract": name} for name in EXTRACTORS],
    "countdown": [{"extract": name} for name in EXTRACTORS],
    "format": [{"mode": mode} for mode in ("strict", "soft", "tag_count")],
    "length": [{"max_characters": 100, "soft_characters": 50}],
    "random": [{}],
}
CHEAP = [(name, args) for name, several in ARGUMENTS.items() for args in several]


@pytest.fixture(scope="module")
def math() -> Iterator[MathAnswerVerifier]:
    verifier = MathAnswerVerifier(extract="whole", cpu_s=2.0)
    yield verifier
    verifier.close()


@given(text=TEXTS)
@settings(max_examples=80, deadline=None)
def test_cheap_verifiers_never_raise_and_repeat(text: str) -> None:
    for name, args in CHEAP:
        verifier = make_verifier(name, **args)
        for completion in (text, f"<answer>{text}</answer>"):
            verdict = verifier.verify(completion, QUESTION)
            assert verdict.score is not None
            assert -1.0 <= verdict.score <= 1.0
            again = verifier.verify(completion, QUESTION)
            assert (verdict.score, verdict.status, verdict.extracted) == (again.score, again.status, again.extracted)


@given(text=TEXTS, reference=TEXTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_math_answers_never_raise(math: MathAnswerVerifier, text: str, reference: str) -> None:
    math.check_reference(text)
    verdict = math.verify(text, QUESTION)
    assert verdict.score in (0.0, 1.0, None)
    against_any = math.verify(text, Question(text="", reference=reference))
    assert against_any.score in (0.0, 1.0, None)


@given(unit=st.sampled_from(FLOODS), extract=st.sampled_from(sorted(EXTRACTORS)))
@settings(max_examples=40, deadline=None)
def test_a_flood_of_a_megabyte_is_answered_in_linear_time(unit: str, extract: str) -> None:
    verifier = MathAnswerVerifier(extract=extract)
    started = time.process_time()
    verdict = verifier.verify(unit * (2**20 // len(unit)), QUESTION)
    assert time.process_time() - started < 2.0
    assert verdict.score is not None
    assert verifier.pool.pids == []


@given(text=MATHEMATICS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mathematics_is_its_own_answer_and_not_one_more_than_itself(math: MathAnswerVerifier, text: str) -> None:
    own = math.verify(f"${text}$", Question(text="", reference=text))
    assert own.status is Status.CORRECT
    more = math.verify(f"{text} + 1", Question(text="", reference=text))
    assert more.score == 0.0, more


@given(text=TEXTS)
@settings(max_examples=80, deadline=None)
def test_references_are_checked_without_raising_and_a_good_one_is_its_own_answer(text: str) -> None:
    verifier = make_verifier("number", extract="whole")
    verdict = verifier.verify(text, Question(text="", reference=text))
    readable = verifier.check_reference(text) is None
    assert readable == (parse_number(text) is not None)
    assert readable or verdict.status is Status.HARNESS_ERROR


@given(value=st.fractions(max_denominator=10**6), grouped=st.booleans())
def test_numbers_survive_being_written(value: Fraction, grouped: bool) -> None:
    assert parse_number(str(value)) == value
    whole = int(value)
    assert parse_number(f"{whole:,}" if grouped else f"{whole}.000") == whole


@given(left=st.integers(0, 10**6), right=st.integers(0, 10**6))
def test_two_values_are_never_one_number(left: int, right: int) -> None:
    for between in (" or ", " and ", ", ", "; ", " / or "):
        assert parse_number(f"{left}{between}{right}") is None


def _join(parts: tuple[tuple[str, Fraction | None], str, tuple[str, Fraction | None]]) -> tuple[str, Fraction | None]:
    """Two expressions under an operator, with the value of the whole, None where it divides by zero."""
    (left_text, left), symbol, (right_text, right) = parts
    text = f"({left_text}{symbol}{right_text})"
    if left is None or right is None or (symbol == "/" and right == 0):
        return text, None
    values = {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else None}
    return text, values[symbol]


NUMBERS = st.integers(0, 99).map(lambda value: (str(value), Fraction(value)))
EXPRESSIONS = st.recursive(
    NUMBERS, lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(_join), max_leaves=8
)


@given(EXPRESSIONS)
def test_the_arithmetic_parser_is_exact(expression: tuple[str, Fraction | None]) -> None:
    text, value = expression
    if value is None:
        with pytest.raises(NotAnExpressionError, match="division by zero"):
            parse_expression(text)
    else:
        assert parse_expression(text).value == value
