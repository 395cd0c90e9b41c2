"""What the tiny Countdown base reads: searches that are right, and no held-out problem."""

import random

import pytest

from grpo.generators import Countdown
from grpo.tiny_base import search
from rewards import Question, Status, make_verifier
from rewards.countdown import parse_expression

GENERATOR = Countdown(min_numbers=3, max_numbers=3, max_number=10, max_target=search.MAX_VALUE, wording="short")
PROBLEMS = [GENERATOR.problem(index, seed=7, held_out=False) for index in range(300)]


@pytest.mark.parametrize("nums", [[3, 5, 4], [1, 1, 10], [10, 9, 10], [7, 7, 7]])
def test_every_try_is_worth_what_is_written(nums: list[int]) -> None:
    for attempt in search.tries(nums):
        expression = parse_expression(attempt.expression)
        assert expression.value == attempt.value <= search.MAX_VALUE
        assert sorted(expression.numbers) == sorted(nums)


def test_a_search_that_ends_at_the_target_is_judged_correct_and_few_do_not() -> None:
    verifier = make_verifier("countdown")
    correct = 0
    for problem in PROBLEMS:
        nums, target = GENERATOR.read(problem)
        text = search.answer_text(nums, target, "search", random.Random(problem.problem_id))
        found = any(attempt.value == target for attempt in search.tries(nums))
        asked = Question(text=problem.question, reference=problem.reference, columns=problem.columns)
        assert (verifier.verify(text, asked).status is Status.CORRECT) >= found
        correct += found
    assert correct > 0.88 * len(PROBLEMS), "division alone solves the others"


def test_a_search_stops_at_the_first_hit() -> None:
    text = search.answer_text([3, 5, 4], 19, "search", random.Random(0))
    assert text == "<think>3*5=15:19</think><answer>(3*5)+4</answer>"


def test_a_jump_seldom_hits_and_a_slip_answers_what_it_tried_last() -> None:
    hits = 0
    for problem in PROBLEMS:
        nums, target = GENERATOR.read(problem)
        rng = random.Random(problem.problem_id)
        jump = search.answer_text(nums, target, "jump", rng)
        assert "<think>" not in jump
        hits += parse_expression(jump.removeprefix("<answer>").removesuffix("</answer>")).value == target
        thought, answer = search.answer_text(nums, target, "slip", rng).split("</think><answer>")
        last = thought.replace(":", ",").rpartition(",")[2]
        assert parse_expression(answer.removesuffix("</answer>")).value == int(last)
    assert 0 < hits < 0.15 * len(PROBLEMS)
