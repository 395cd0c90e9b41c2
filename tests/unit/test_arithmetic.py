"""Chained arithmetic against Python's own evaluation."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo.arithmetic import MAX_VALUE, is_held_out, problem_at, solve_in_steps, tokenize

INDICES = st.integers(min_value=0, max_value=10**9)


def value_of(expression: str) -> int:
    assert re.fullmatch(r"[0-9+\-*()]+", expression)
    return int(eval(expression))


@settings(max_examples=200, deadline=None)
@given(index=INDICES, seed=st.integers(0, 100), held_out=st.booleans())
def test_every_step_keeps_the_value_and_the_last_is_the_answer(index: int, seed: int, held_out: bool) -> None:
    expression, answer = problem_at(index, seed=seed, held_out=held_out)
    steps = solve_in_steps(expression)
    assert {value_of(step) for step in [expression, *steps]} == {int(answer)}
    assert steps[-1] == answer


@settings(max_examples=200, deadline=None)
@given(index=INDICES, held_out=st.booleans(), length=st.integers(2, 8))
def test_a_step_does_one_operation_and_stays_in_range(index: int, held_out: bool, length: int) -> None:
    expression, _ = problem_at(index, seed=0, held_out=held_out, min_numbers=length, max_numbers=length)
    steps = [expression, *solve_in_steps(expression)]
    counts = [len(re.findall(r"\d+", step)) for step in steps]
    assert counts == list(range(length, 0, -1))
    assert all(0 <= int(number) <= MAX_VALUE for step in steps for number in re.findall(r"\d+", step))


@given(index=INDICES, seed=st.integers(0, 100), held_out=st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_split_follows_from_the_text_whatever_the_seed(index: int, seed: int, held_out: bool) -> None:
    expression, _ = problem_at(index, seed=seed, held_out=held_out)
    assert is_held_out(expression) == held_out


def test_about_one_expression_in_ten_is_held_out() -> None:
    texts = {f"{a}+{b}-{c}" for a in range(20) for b in range(20) for c in range(20)}
    share = sum(map(is_held_out, texts)) / len(texts)
    assert 0.085 < share < 0.115


def test_problems_repeat_by_index_and_differ_between_indices_and_seeds() -> None:
    first = [problem_at(index, seed=0, held_out=False) for index in range(50)]
    assert first == [problem_at(index, seed=0, held_out=False) for index in range(50)]
    assert len(set(first)) > 45
    assert first != [problem_at(index, seed=1, held_out=False) for index in range(50)]


def test_brackets_come_before_products_and_products_before_the_rest() -> None:
    assert solve_in_steps("20-2*(3+4)") == ["20-2*7", "20-14", "6"]
    assert solve_in_steps("9-3-2") == ["6-2", "4"]


@pytest.mark.parametrize("expression", ["3-5+9", f"{MAX_VALUE}+1", f"{MAX_VALUE}*2"])
def test_an_intermediate_value_out_of_range_raises(expression: str) -> None:
    with pytest.raises(ValueError, match=rf"outside 0\.\.{MAX_VALUE}$"):
        solve_in_steps(expression)


def test_tokens_join_to_the_text() -> None:
    assert tokenize("12-(3+4)*10") == ["12", "-", "(", "3", "+", "4", ")", "*", "10"]
