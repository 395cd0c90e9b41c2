"""Group-relative advantages, and the samples made of a group."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest

from grpo.advantages import STD_EPSILON, advantages_of_step, has_variance, teaches
from grpo.datatypes import Group
from grpo.recipe import Algorithm
from rewards.verdict import Status, Verdict
from tests.factories import make_completion, make_group, make_prompt, make_scored, make_segment, samples_of

UNDIVIDED = Algorithm(scale_rewards="none")


def group_advantages(rewards, scale):
    (advantages,) = advantages_of_step([rewards], Algorithm(scale_rewards=scale))
    return advantages


@pytest.mark.parametrize(
    ("rewards", "scale", "expected"),
    [
        ([1, 0, 0, 1], "none", [0.5, -0.5, -0.5, 0.5]),
        ([3, 0, 0], "none", [2, -1, -1]),
        ([1, -1], "group", [1 / (math.sqrt(2) + 1e-4), -1 / (math.sqrt(2) + 1e-4)]),
        ([1, 0, 0, 0], "group", [0.75 / (0.5 + 1e-4), *[-0.25 / (0.5 + 1e-4)] * 3]),
        ([7, 7, 7], "group", [0, 0, 0]),
    ],
)
def test_advantages_of_known_groups(rewards, scale, expected):
    np.testing.assert_allclose(group_advantages(np.array(rewards, np.float64), scale), expected, rtol=0, atol=1e-15)


def test_scaling_divides_by_the_sample_standard_deviation():
    rewards = [0.3, -1.2, 2.5, 0.0, 0.9]
    mean, std = statistics.mean(rewards), statistics.stdev(rewards)
    expected = [(reward - mean) / (std + STD_EPSILON) for reward in rewards]
    np.testing.assert_allclose(group_advantages(np.array(rewards), "group"), expected, rtol=1e-14)


@pytest.mark.parametrize("scale", ["group", "none"])
def test_advantages_ignore_a_shift_and_sum_to_zero(scale):
    rewards = np.array([0.3, -1.2, 2.5, 0.0])
    advantages = group_advantages(rewards, scale)
    assert advantages.sum() == pytest.approx(0, abs=1e-14)
    np.testing.assert_allclose(group_advantages(rewards + 5, scale), advantages, atol=1e-12)


def test_scaled_advantages_hardly_depend_on_the_reward_unit():
    rewards = np.array([0.0, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(group_advantages(100 * rewards, "group"), group_advantages(rewards, "group"), rtol=1e-3)
    np.testing.assert_allclose(group_advantages(100 * rewards, "none"), 100 * group_advantages(rewards, "none"))


@pytest.mark.parametrize(
    ("rewards", "varies"), [([], False), ([1.0], False), ([0.5, 0.5], False), ([0.0, 0.0, 1e-9], True), ([1, 0], True)]
)
def test_only_differing_rewards_teach(rewards, varies):
    assert has_variance(np.array(rewards, np.float64)) is varies


def test_a_sample_is_prompt_then_answer_and_the_loss_counts_what_the_policy_wrote():
    rng = np.random.default_rng(0)
    prompt = make_prompt(token_ids=(9, 8))
    segments = [
        make_segment(rng, 2, version=4),
        make_segment(rng, 3, version=5, source="environment"),
        make_segment(rng, 1, version=5),
    ]
    members = (
        make_scored(make_completion(prompt, 0, segments), 1.0),
        make_scored(make_completion(prompt, 1, [make_segment(rng, 2, version=5)]), 0.0),
    )
    sample, _ = samples_of([Group(prompt=prompt, members=members)], UNDIVIDED)
    answer = np.concatenate([segment.token_ids for segment in segments])
    assert sample.token_ids_L.tolist() == [9, 8, *answer]
    assert sample.loss_mask_L.tolist() == [False, False, True, True, False, False, False, True]
    assert sample.behavior_logprobs_L[:2].tolist() == [0, 0]
    np.testing.assert_array_equal(sample.behavior_logprobs_L[2:4], segments[0].behavior_logprobs)
    assert (sample.version, sample.prompt_length, sample.advantage, sample.truncated) == (4, 2, 0.5, False)
    assert sample.old_logprobs_L is None


@pytest.mark.parametrize("mask_truncated", [False, True])
def test_a_truncated_answer_is_masked_only_when_asked_and_always_shapes_the_mean(mask_truncated):
    rng = np.random.default_rng(0)
    prompt = make_prompt()
    members = tuple(
        make_scored(make_completion(prompt, index, [make_segment(rng, 3)], reason), reward)
        for index, (reason, reward) in enumerate([("length", 0.0), ("stop", 1.0)])
    )
    group = Group(prompt=prompt, members=members)
    cut, whole = samples_of([group], UNDIVIDED, mask_truncated=mask_truncated)
    assert (cut.truncated, whole.truncated) == (True, False)
    assert int(cut.loss_mask_L.sum()) == (0 if mask_truncated else 3)
    assert int(whole.loss_mask_L.sum()) == 3
    assert whole.advantage == 0.5


def test_an_unscored_answer_shapes_neither_mean_nor_samples():
    with_error = samples_of([make_group([1.0, None, 0.0, 0.0])], Algorithm())
    without = group_advantages(np.array([1.0, 0.0, 0.0]), "group")
    assert [sample.sample_index for sample in with_error] == [0, 2, 3]
    np.testing.assert_array_equal([sample.advantage for sample in with_error], without)


@pytest.mark.parametrize(
    ("rewards", "keys", "does"),
    [
        ([1, 1, 1, 1], {}, False),
        ([1, 1, 1, 0], {}, True),
        ([1, 1, 1, 0], {"pass_at_k": 2}, False),  # of any two answers one is right
        ([1, 1, 0, 0], {"pass_at_k": 2}, True),
        ([1, 1, 1, 1], {"baseline": "batch", "scale_rewards": "none"}, True),
    ],
)
def test_a_group_teaches_where_an_answer_can_have_an_advantage(rewards, keys, does):
    group, algorithm = make_group([float(reward) for reward in rewards]), Algorithm(**keys)
    assert teaches(group, algorithm, {"number": 1.0}) is does
    step = [group.rewards_G, np.array([0.0, 1.0, 1.0, 1.0])]
    assert bool(np.abs(advantages_of_step(step, algorithm)[0]).max() > 1e-12) is does


def test_a_reward_without_weight_teaches_nothing():
    algorithm = Algorithm(multi_objective_aggregation="normalize_then_sum")
    group = make_group([1.0, 0.0, 0.0])
    assert teaches(group, algorithm, {"number": 1.0})
    assert not teaches(group, algorithm, {"number": 0.0})


def test_a_pass_rate_is_of_the_first_function_that_applies():
    group = make_group([1.0, 0.0, 1.0, 0.0])
    declined = {"format": Verdict(score=None, status=Status.UNSCORED)}
    own = [{"number": Verdict(score=r, status=Status.CORRECT if r else Status.WRONG)} for r in (1.0, 0.0, 1.0, 0.0)]
    members = tuple(replace(m, verdicts=declined | v) for m, v in zip(group.members, own, strict=True))
    assert replace(group, members=members).pass_rate == 0.5
