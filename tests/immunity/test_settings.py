"""Settings of a batch that contradict each other, or that nobody can tell apart."""

import pytest

from grpo import check
from grpo.errors import RecipeError
from grpo.recipe import with_overrides
from tests.factories import make_recipe

THREADS_SETTINGS = ("rollout.problems_per_step=1024", "rollout.num_generations=5", "algorithm.num_minibatches=4")


def test_one_recipe_says_problems_answers_and_updates_in_words() -> None:
    said = "\n".join(check._batch(with_overrides(make_recipe(), THREADS_SETTINGS)))
    assert "1,024 problems x 5 answers = 5,120 answers" in said
    assert "updates: 4 a step, each on 1,280 answers" in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("algorithm.num_minibatches=3", "must divide the 5120 answers of a step"),
        ("learner.row_tokens=80", "must hold the longest sample"),
        ("rollout.num_generations=1", "must be at least 2"),
        ("algorithm.ppo_mini_batch_size=256", "ppo_mini_batch_size"),
        ("learner.micro_batch_size_per_gpu=80", "micro_batch_size_per_gpu"),
    ],
)
def test_batch_sizes_that_do_not_go_together_are_refused(override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        with_overrides(make_recipe(), (*THREADS_SETTINGS, override))
