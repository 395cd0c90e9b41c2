"""The 64 answers have everything that their maker says, so that a test on them can fail."""

from collections import Counter
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from tests.unit.brute_force import Answer, Outcome, Settings, evaluate
from tests.unit.ragged_answers import make_answers

BASE = Settings(importance_sampling_correction=True, beta=0.05, epsilon=0.2, epsilon_high=0.28)


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    return make_answers()


@pytest.fixture(scope="module")
def base(answers) -> Outcome:
    return evaluate(answers, BASE)


def test_the_answers_are_as_ragged_as_their_maker_says(answers):
    assert answers == make_answers()
    assert answers != make_answers(seed=1)
    lengths = [len(answer.policy_logprobs) for answer in answers]
    assert (len(answers), min(lengths), max(lengths)) == (64, 1, 40)
    assert Counter(answer.group for answer in answers) == dict.fromkeys(range(8), 8)
    assert sum(answer.reward is None for answer in answers) == 8
    assert sum(answer.truncated for answer in answers) == 4
    assert sum(any(answer.from_environment) for answer in answers) >= 5
    for answer in answers:
        for values in (answer.policy_logprobs, answer.old_logprobs, answer.behavior_logprobs, answer.ref_logprobs):
            assert values == [float(np.float32(value)) for value in values]
            assert len(values) == len(answer.entropies) == len(answer.from_environment)
            assert max(values) <= 0


def test_one_group_has_equal_rewards_and_one_no_positive_mean(answers):
    assert {answer.reward for answer in answers if answer.group == 1} == {1.5}
    assert fmean(answer.reward or 0.0 for answer in answers if answer.group == 4) <= 0


@pytest.mark.parametrize(
    "change",
    [
        {"pass_at_k": 4},
        *({"baseline": baseline} for baseline in ("leave_one_out", "batch")),
        *({"scale_rewards": scale} for scale in ("batch", "mean", "none")),
        {"multi_objective_aggregation": "normalize_then_sum"},
        *(
            {"policy_loss": policy_loss}
            for policy_loss in ("gspo", "gspo_token", "cispo", "sapo", "gmpo", "reinforce", "dppo")
        ),
        {"epsilon": 0.1},
        {"epsilon_high": 0.3},
        {"delta": 2.0},
        {"policy_loss": "dppo", "dppo_threshold": 0.05},
        {"policy_loss": "sapo", "sapo_temperature_neg": 1.5},
        {"old": "behavior"},
        {"importance_sampling_correction": False},
        *({"importance_sampling_mode": mode} for mode in ("token_mask", "sequence_truncate", "sequence_mask")),
        {"importance_sampling_cap": 1.2},
        {"importance_sampling_mode": "token_mask", "importance_sampling_min": 0.9},
        {"importance_sampling_mode": "sequence_mask", "importance_sampling_min": 0.9},
        {"off_policy_mask_threshold": 0.3},
        {"top_entropy_quantile": 0.2},
        {"beta": 0.0},
        {"kl_in": "reward"},
        *({"kl_estimator": estimator} for estimator in ("k1", "k2")),
        {"kl_importance_correction": True},
        {"entropy_coef": 0.01},
        *({"loss_type": loss_type} for loss_type in ("grpo", "dr_grpo")),
        {"mask_truncated_completions": True},
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items()),
)
def test_every_setting_changes_something_on_these_answers(answers, base, change):
    last = list(change)[-1]
    without = replace(BASE, **{key: value for key, value in change.items() if key != last})
    before = base if without == BASE else evaluate(answers, without)
    changed = evaluate(answers, replace(BASE, **change))
    difference = max(
        abs(a - b)
        for name in ("policy_gradients", "entropy_gradients")
        for row, other in zip(getattr(changed, name), getattr(before, name), strict=True)
        for a, b in zip(row, other, strict=True)
    )
    assert difference > 1e-6
    assert abs(changed.loss - before.loss) > 1e-6
