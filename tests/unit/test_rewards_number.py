"""Exact numbers: what reads as one, and when two are equal."""

from fractions import Fraction

import pytest

from rewards import NumberVerifier, Question, Status
from rewards.number import parse_number, quantity_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("+4", 4),
        ("4.0", 4),
        ("4.", 4),
        ("004", 4),
        ("-4", -4),
        ("\u22124", -4),
        (".5", Fraction(1, 2)),
        ("1/2", Fraction(1, 2)),
        ("2 / 4", Fraction(1, 2)),
        (r"\frac{1}{2}", Fraction(1, 2)),
        (r"-\dfrac{1}{2}", Fraction(-1, 2)),
        ("1 1/4", Fraction(5, 4)),
        ("7,425,000", 7425000),
        ("1 000", 1000),
        (r"11,\! 111,\! 100", 11111100),
        ("1{,}234", 1234),
        ("$18", 18),
        ("-$18.50", Fraction(-37, 2)),
        (r"\$18", 18),
        ("$18$", 18),
        ("**18**", 18),
        ("28%", 28),
        (r"28\%", 28),
        ("70,000 dollars", 70000),
        ("x = 5", 5),
        ("5 km/h.", 5),
        ("5 cm^2", 5),
        ("5 square meters", 5),
        ("90°", 90),
        ("5 red apples", 5),
        ("2.5e3", 2500),
    ],
)
def test_one_number_is_read_exactly(text: str, value: Fraction | int) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4 or 5",
        "4 or five",
        "18 but it may be twelve",
        "4 is correct please",
        "4 if x",
        "4 a b c d e f",
        "$4 euros",
        "4, 5",
        "4 5",
        "4 10/3",
        "3x",
        "3 x",
        "2^10",
        "10!",
        "sqrt(4)",
        "1/0",
        r"\frac{1}{0}",
        "+-4",
    ]
    + [
        "1,23",
        "4 million",
        "not 4",
        "--4",
        "four",
        "4;",
        "\u0664",
        "\u00b2",
        "9" * 5000,
        "4 " + "a" * 190,
        "nan",
        "inf",
    ],
)
def test_what_is_not_one_number(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "unit"),
    [("$5", "dollar"), ("5 cm", "cm"), ("5%", "percent"), ("5", ""), ("5 apples", ""), ("90°", "degree")],
)
def test_the_unit_is_named(text: str, unit: str) -> None:
    quantity = quantity_of(text)
    assert quantity is not None
    assert quantity.unit == unit


@pytest.mark.parametrize("answer", ["4", "4.0", "+4", "4.", " 4 ", "$4", r"\boxed{4}", "4 apples"])
def test_equal_answers_are_right_and_one_vote(answer: str) -> None:
    verdict = NumberVerifier().verify(f"<answer>{answer}</answer>", Question(text="", reference="4"))
    assert (verdict.score, verdict.status, verdict.extracted) == (1.0, Status.CORRECT, "4")


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        ("<answer>5</answer>", Status.WRONG),
        ("<answer>4.0000000000000000000000001</answer>", Status.WRONG),
        ("<answer>4 or 5</answer>", Status.UNPARSED),
        ("<answer>5, 4</answer>", Status.UNPARSED),
        (r"<answer>\boxed{5} or \boxed{4}</answer>", Status.UNPARSED),
        ("<answer>4</answer> <answer>5</answer>", Status.WRONG),
        ("the answer is 4", Status.UNPARSED),
        ("<answer>four</answer>", Status.UNPARSED),
    ],
)
def test_wrong_and_hedged_answers_score_nothing(completion: str, status: Status) -> None:
    verdict = NumberVerifier().verify(completion, Question(text="", reference="4"))
    assert (verdict.score, verdict.status) == (0.0, status)
    assert verdict.reason or status is Status.WRONG


@pytest.mark.parametrize(
    ("extract", "completion"),
    [("boxed", r"so \boxed{4}"), ("last_number", "2+2=4"), ("first_number", " 4\nQ: 9"), ("hashes", "2+2\n#### 4")]
    + [("final_answer", "The final answer is 4."), ("whole", "4")],
)
def test_extract_says_where_the_answer_stands(extract: str, completion: str) -> None:
    assert NumberVerifier(extract=extract).verify(completion, Question(text="", reference="4")).score == 1.0


def test_a_reference_that_is_no_number_is_named_and_never_scored() -> None:
    verifier = NumberVerifier()
    assert verifier.check_reference("1,000") is None
    assert "'a lot'" in str(verifier.check_reference("a lot"))
    verdict = verifier.verify("<answer>4</answer>", Question(text="", reference="a lot"))
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
