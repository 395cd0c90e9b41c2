"""Countdown: TinyZero's scores, and a parser that hostile text cannot hurt."""

from fractions import Fraction

import numpy as np
import pytest

from rewards import CountdownVerifier, Question, Status
from rewards.countdown import NotAnExpressionError, parse_expression

QUESTION = Question(text="", reference="24", columns={"nums": [3, 8, 8, 3], "target": 24})


def score(equation: str, question: Question = QUESTION) -> tuple[float | None, Status]:
    verdict = CountdownVerifier().verify(f"<think>..</think><answer>{equation}</answer>", question)
    return verdict.score, verdict.status


@pytest.mark.parametrize(
    "equation",
    [
        "8/(3-8/3)",
        "8 / (3 - 8 / 3) = 24",
        r"8 \div (3 - 8 \div 3)",
        "8÷(3\u22128÷3)",
        "[8]/(3-(8/3))",
        "8/(3-8/3)=8/(1/3)=24",
    ],
)
def test_an_equation_that_uses_each_number_once_and_holds_is_right(equation: str) -> None:
    assert score(equation) == (1.0, Status.CORRECT)


@pytest.mark.parametrize(
    "equation",
    ["3*8", "24", "3+8+8+3", "8*3*(8/8)", "8/(3-8/3)+3-3", "8/(3-8/3)=25", "8/(3-8/3)=24=25", "38-8-3-3", "-3-8-8-3"],
)
def test_an_equation_that_parses_but_is_wrong_gets_a_tenth(equation: str) -> None:
    assert score(equation) == (0.1, Status.WRONG)


@pytest.mark.parametrize(
    "equation",
    [
        "",
        "eight",
        "8/(3-3)*8",
        "3**8",
        "3//8",
        "3 8",
        "3(8)",
        "(3",
        "3)",
        "()",
        "3+",
        "__import__('os').system('x')",
        "8==",
    ]
    + [
        "9**9**9**9",
        "(" * 150 + "1" + ")" * 150,
        "-" * 250 + "1",
        "1+" * 5000 + "1",
        "9" * 13,
        "3.5",
        "\u00b3",
        "1e9",
        "3=x",
    ],
)
def test_what_is_no_equation_scores_nothing(equation: str) -> None:
    assert score(equation) == (0.0, Status.UNPARSED)


def test_without_an_answer_nothing_is_scored() -> None:
    verdict = CountdownVerifier().verify("8/(3-8/3)", QUESTION)
    assert (verdict.score, verdict.status) == (0.0, Status.UNPARSED)


@pytest.mark.parametrize("nums", [(1, 2), np.array([1, 2]), [np.int64(1), 2]])
def test_columns_of_any_integer_sequence_are_read(nums: object) -> None:
    question = Question(text="", reference="3", columns={"nums": nums, "target": np.int64(3)})
    assert score("2+1", question) == (1.0, Status.CORRECT)


def test_without_a_target_column_the_reference_is_the_target() -> None:
    assert score("2+1", Question(text="", reference="3", columns={"nums": [1, 2]})) == (1.0, Status.CORRECT)


@pytest.mark.parametrize(
    ("columns", "named"),
    [({}, "nums"), ({"nums": "12"}, "nums"), ({"nums": [1.5]}, "nums"), ({"nums": [1], "target": "x"}, "target")],
)
def test_bad_columns_are_no_judgement_of_the_answer(columns: dict[str, object], named: str) -> None:
    verdict = CountdownVerifier().verify("<answer>1</answer>", Question(text="", reference="1", columns=columns))
    assert verdict.status is Status.HARNESS_ERROR
    assert named in verdict.reason


def test_references_are_numbers() -> None:
    assert CountdownVerifier().check_reference("24") is None
    assert "target" in str(CountdownVerifier().check_reference("8*3"))


@pytest.mark.parametrize(
    ("text", "value"), [("1-2-3", -4), ("2*3+4", 10), ("2+3*4", 14), ("1/3", Fraction(1, 3)), ("--2", 2)]
)
def test_precedence_and_exactness(text: str, value: Fraction) -> None:
    assert parse_expression(text).value == value


def test_the_parser_says_what_it_met() -> None:
    with pytest.raises(NotAnExpressionError, match="division by zero"):
        parse_expression("1/(2-2)")
