"""Generated problems are right, pure, and split by their text."""

import re
from fractions import Fraction
from itertools import permutations

import pytest

from grpo.arithmetic import is_held_out
from grpo.datatypes import Problem
from grpo.errors import DataError
from grpo.generators import GENERATORS, WORDINGS, Countdown, OneDigit, make_generator


def drawn(name: str, held_out: bool, count: int, seed: int = 0) -> list[Problem]:
    generator = make_generator(name, {})
    size = generator.size(held_out)
    return [generator.problem(i, seed=seed, held_out=held_out) for i in range(min(count, size or count))]


def one_digit_operation(problem: Problem) -> tuple[int, str, int]:
    match = re.fullmatch(r"What is (\d) ([+*]) (\d)\?", problem.question)
    assert match is not None
    return int(match[1]), match[2], int(match[3])


@pytest.mark.parametrize("name", sorted(GENERATORS))
@pytest.mark.parametrize("held_out", [False, True])
def test_a_problem_is_a_pure_function_of_its_index(name: str, held_out: bool) -> None:
    assert drawn(name, held_out, 40) == drawn(name, held_out, 40)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_the_splits_share_no_question_under_any_seed(name: str) -> None:
    held_out = {p.question for seed in range(3) for p in drawn(name, True, 200, seed)}
    train = {p.question for seed in range(3) for p in drawn(name, False, 1000, seed)}
    assert held_out
    assert train
    assert held_out.isdisjoint(train)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_ids_are_distinct_across_splits_and_name_the_source(name: str) -> None:
    problems = drawn(name, True, 30) + drawn(name, False, 30)
    assert len({p.problem_id for p in problems}) == len(problems)
    assert all(p.source == name and p.problem_id.startswith(f"{name}/") for p in problems)


def test_one_digit_is_every_sum_and_product_once() -> None:
    problems = drawn("one_digit", True, 200) + drawn("one_digit", False, 200)
    operations = [one_digit_operation(p) for p in problems]
    assert len(operations) == 200
    assert set(operations) == {(a, op, b) for a in range(10) for b in range(10) for op in "+*"}
    for problem, (left, operator, right) in zip(problems, operations, strict=True):
        assert int(problem.reference) == (left + right if operator == "+" else left * right)


def test_one_digit_keeps_commuted_twins_in_one_split() -> None:
    held_out = {one_digit_operation(p) for p in drawn("one_digit", True, 200)}
    assert 20 <= len(held_out) <= 60
    assert {(b, op, a) for a, op, b in held_out} == held_out
    assert {op for _, op, _ in held_out} == {"+", "*"}


def test_one_digit_has_an_end() -> None:
    generator = OneDigit()
    size = generator.size(True)
    assert size is not None
    with pytest.raises(IndexError):
        generator.problem(size, seed=0, held_out=True)


def reachable(values: tuple[Fraction, ...]) -> set[Fraction]:
    if len(values) == 1:
        return {values[0]}
    results: set[Fraction] = set()
    for a, b, *rest in permutations(values):
        joined = [a + b, a - b, a * b] + ([a / b] if b else [])
        for value in joined:
            results |= reachable((value, *rest))
    return results


def test_every_countdown_problem_has_a_solution() -> None:
    generator = Countdown(min_numbers=3, max_numbers=4, max_number=20, max_target=50)
    for index in range(25):
        problem = generator.problem(index, seed=0, held_out=index % 2 == 0)
        nums, target = problem.columns["nums"], problem.columns["target"]
        assert isinstance(nums, list)
        assert isinstance(target, int)
        assert problem.reference == str(target)
        assert 1 <= target <= 50
        assert 3 <= len(nums) <= 4
        assert Fraction(target) in reachable(tuple(map(Fraction, nums)))
        assert str(nums) in problem.question
        assert str(target) in problem.question


def test_countdown_splits_by_the_numbers_whatever_their_order() -> None:
    generator = make_generator("countdown", {"min_numbers": 2, "max_numbers": 2, "max_number": 10, "max_target": 20})

    def keys(held_out: bool) -> set[tuple[str, ...]]:
        problems = [generator.problem(i, seed=0, held_out=held_out) for i in range(400)]
        return {(*sorted(re.findall(r"\d+", str(p.columns["nums"]))), p.reference) for p in problems}

    assert keys(True)
    assert keys(True).isdisjoint(keys(False))


def test_every_wording_of_countdown_asks_for_the_same_numbers_and_target() -> None:
    made = {name: Countdown(wording=name).problem(5, seed=1, held_out=False) for name in WORDINGS}
    assert len({problem.question for problem in made.values()}) == len(WORDINGS)
    assert len({(str(problem.columns), problem.reference) for problem in made.values()}) == 1
    nums, target = Countdown.read(made["short"])
    assert made["short"].question == f"{' '.join(map(str, nums))} -> {target}"
    assert f"the numbers {nums}, create an equation that equals {target}." in made["tinyzero"].question


def test_arithmetic_takes_its_lengths_from_the_arguments() -> None:
    generator = make_generator("arithmetic", {"min_numbers": 6, "max_numbers": 6})
    for index in range(30):
        problem = generator.problem(index, seed=3, held_out=True)
        assert len(re.findall(r"\d+", problem.question)) == 6
        assert is_held_out(problem.question)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("arithmetic", {"min_number": 3}, r"data\.train\.args\.min_number = 3: .*Did you mean 'min_numbers'"),
        ("one_digit", {"depth": 3}, r"data\.train\.args\.depth = 3: generator 'one_digit' takes no arguments"),
        ("arithmetic", {"min_numbers": "3"}, r"data\.train\.args\.min_numbers = '3': must be a whole number"),
        ("arithmetic", {"min_numbers": True}, r"data\.train\.args\.min_numbers = True: must be a whole number"),
        ("arithmetic", {"min_numbers": 5, "max_numbers": 4}, r"min_numbers = 5, max_numbers = 4: 2 <= min_numbers"),
        ("arithmetic", {"min_numbers": 1}, r"min_numbers = 1"),
        ("arithmetic", {"max_numbers": 13}, r"max_numbers <= 12"),
        ("countdown", {"wording": "tiny"}, r"wording = 'tiny': allowed are plain, tinyzero, short"),
        ("countdown", {"wording": 3}, r"wording = 3: allowed are plain, tinyzero, short"),
        ("countdown", {"max_number": "9"}, r"args\.max_number = '9': must be a whole number"),
        ("countdown", {"max_target": 3}, r"max_target = 3: both must be at least 10"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(name: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_generator(name, args)
