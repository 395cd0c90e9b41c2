"""Outputs and values as judges compare them."""

import math

import pytest

from rewards.code_output import describe, difference
from rewards.code_value import same_value, shown

NAN = math.nan


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("1 2\n3\n", "1 2\n3"),
        ("1 2\n3", "1 2  \r\n3\t\n\n\n"),
        ("1 2", "\n 1   2"),
        ("", " \n\n"),
        ("0.5", "0.50000001"),
        ("1e-7 x", "0.0000001 x"),
        ("1000.0", "1000.0005"),
        ("1000000.0", "1000000.0005"),
        ("123456789012345.5", "123456789012345.6"),
        ("3", "3.0"),
        ("-12 7", "-12.000 7"),
        ("a\n\nb", "a\n\nb"),
        (".5", "0.5"),
        ("1.0", "1"),
        ("-0.0", "0"),
    ],
)
def test_outputs_that_a_judge_takes_for_the_same(expected: str, given: str) -> None:
    assert difference(expected, given, 1e-6) is None


@pytest.mark.parametrize(
    ("expected", "given", "line"),
    [
        ("1 2\n3", "1\n2\n3", 1),
        ("1", "1 1", 1),
        ("1\n2", "1", 2),
        ("1", "1\n2", 2),
        ("a\n\nb", "a\nb", 2),
        ("YES", "yes", 1),
        ("1000000", "1000001", 1),
        ("3", "3.", 1),
        ("3", "3.01", 1),
        ("3", "03.0", 1),
        ("0011", "11.0", 1),
        ("3.0", "3.1", 1),
        ("1234567.89", "1234568.89", 1),
        ("1234567.89", "1234567.90", 1),
        ("1000000.0001", "1000001", 1),
        ("0.5", "0.50001", 1),
        ("0.5", "nan", 1),
        ("0.5", "inf", 1),
        ("0.5", "0_0.5", 1),
        ("0.5", "half", 1),
        ("1.5.2", "1.5.20", 1),
        ("ab", "a b", 1),
    ],
)
def test_outputs_that_differ_and_the_line_in_which_they_do(expected: str, given: str, line: int) -> None:
    found = difference(expected, given, 1e-6)
    assert found is not None
    assert found.line == line
    assert describe(found).startswith(f"line {line}: expected ")


def test_no_tolerance_is_exact() -> None:
    assert difference("0.5", "0.50", 0.0) is not None
    assert difference("0.5", "0.5 ", 0.0) is None


def test_a_difference_of_any_size_is_described_in_a_line() -> None:
    found = difference("x", "y" * 1_000_000, 1e-6)
    assert found is not None
    assert len(describe(found)) < 200


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (1, 1),
        (1, 1.0),
        (2.0, 2),
        (0.3, 0.1 + 0.2),
        (1e9, 1e9 + 1e-4),
        ("a", "a"),
        (None, None),
        (True, True),
        ([1, [2]], (1, (2,))),
        ({"1": 2}, {1: 2}),
        ({"a": [0.5]}, {"a": (0.5 + 1e-9,)}),
        (math.inf, math.inf),
        (NAN, NAN),
        ([], ()),
        (10**400, 10**400),
    ],
)
def test_values_that_are_the_same(expected: object, given: object) -> None:
    assert same_value(expected, given, 1e-6)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (1, True),
        (True, 1),
        (0, False),
        (0.0, False),
        (1, "1"),
        ("1", 1),
        (None, 0),
        (0, None),
        (None, False),
        ([1], {1}),
        ([1], [1, 1]),
        ([1, 2], [2, 1]),
        ("ab", ["a", "b"]),
        (1, 1.0000001),
        (1e9, 1e9 + 1),
        (0.5, NAN),
        (NAN, 0.5),
        (0.5, math.inf),
        (0.5, 10**400),
        (math.inf, -math.inf),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"1": 2}, {1: 2, "1": 2}),
        ({"true": 1}, {"True": 1}),
        ({"a": 1}, [("a", 1)]),
        ("a", b"a"),
    ],
)
def test_values_that_are_not(expected: object, given: object) -> None:
    assert not same_value(expected, given, 1e-6)


def test_values_of_any_size_are_shown_in_a_line() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert all(len(shown(value)) < 100 for value in (10**10_000, nested, "x" * 10**6))
