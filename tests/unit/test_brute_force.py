"""The reference of the objective, checked by hand: small enough that each expected number is written out."""

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from tests.unit.brute_force import Answer, Outcome, Settings, advantages, best_of_k, evaluate
from tests.unit.ragged_answers import make_answers

OLD = 0.2  # the old probability of every token that a test does not say otherwise of
LOSSES = ("clip", "gspo", "gspo_token", "cispo", "sapo", "gmpo", "reinforce", "dppo")
SIGMOID_1 = 1 / (1 + math.exp(-1))


def make_answer(reward: float | None = 0.0, ratios: tuple[float, ...] = (1.0,), **changes: Any) -> Answer:
    """Tokens whose old probability is OLD and whose policy probability is ratio times that; nothing else differs."""
    old = [math.log(OLD)] * len(ratios)
    fields: dict[str, Any] = {
        "group": 0,
        "reward": reward,
        "scores": {},
        "policy_logprobs": [math.log(OLD * ratio) for ratio in ratios],
        "old_logprobs": old,
        "behavior_logprobs": old,
        "ref_logprobs": old,
        "entropies": [1.0] * len(ratios),
        "from_environment": [False] * len(ratios),
        "truncated": False,
    }
    return Answer(**(fields | changes))


def lone(advantage: float, ratios: tuple[float, ...], settings: Settings, **changes: Any) -> Outcome:
    """One answer of this advantage; its group's other member, of the opposite one, is truncated and masked."""
    answers = [make_answer(advantage, ratios, **changes), make_answer(-advantage, truncated=True)]
    return evaluate(answers, replace(settings, scale_rewards="none", mask_truncated_completions=True))


def group_of(rewards: list[float | None], group: int = 0) -> list[Answer]:
    return [make_answer(reward, group=group) for reward in rewards]


def approx(values: Any) -> Any:
    return pytest.approx(values, rel=1e-12, abs=1e-14)


# ---------------------------------------------------------------- advantages

ROOT_HALF = math.sqrt(0.5)  # the sample std of 1 and 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.5 / (ROOT_HALF + 1e-4), -0.5 / (ROOT_HALF + 1e-4), 0, 0]),
        ({"scale_rewards": "none"}, [0.5, -0.5, 0, 0]),
        ({"scale_rewards": "none", "baseline": "leave_one_out"}, [1, -1, 0, 0]),
        ({"scale_rewards": "none", "baseline": "batch"}, [0.25, -0.75, 0.25, 0.25]),
        ({"scale_rewards": "batch"}, [0.5 / 0.5001, -0.5 / 0.5001, 0, 0]),
        (
            {"scale_rewards": "batch", "baseline": "batch"},
            [0.25 / 0.5001, -0.75 / 0.5001, 0.25 / 0.5001, 0.25 / 0.5001],
        ),
        ({"scale_rewards": "mean"}, [1, -1, 0, 0]),
        ({"scale_rewards": "mean", "baseline": "leave_one_out"}, [2, -2, 0, 0]),
    ],
)
def test_advantages_of_two_groups(settings, expected):
    assert advantages(group_of([1.0, 0.0]) + group_of([1.0, 1.0], group=1), Settings(**settings)) == approx(expected)


@pytest.mark.parametrize("rewards", [[0.0, 0.0], [-1.0, 0.5], [1.0, -1.0]])
def test_scaling_by_a_mean_that_is_not_positive_teaches_nothing(rewards):
    assert advantages(group_of(rewards), Settings(scale_rewards="mean")) == [0, 0]


def test_unscored_answers_are_in_no_statistic():
    settings = Settings(scale_rewards="none", baseline="leave_one_out")
    assert advantages(group_of([3.0, None, 1.0, 2.0]), settings) == [1.5, None, -1.5, 0.0]


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group", "none", "mean"])
def test_the_only_scored_answer_of_a_group_has_advantage_zero(baseline, scale):
    assert advantages(group_of([0.7, None]), Settings(baseline=baseline, scale_rewards=scale)) == [0, None]


def test_pass_at_k_of_binary_rewards_is_the_papers_analytic_advantage():
    # one of four is right, k = 2: R = 1 - 3/6, sigma = sqrt(R (1 - R)), a wrong one's pair holds the right one 1/3
    right, wrong = 0.5 / (0.5 + 1e-4), (1 / 3 - 0.5) / (0.5 + 1e-4)
    assert advantages(group_of([1.0, 0.0, 0.0, 0.0]), Settings(pass_at_k=2)) == approx([right, wrong, wrong, wrong])


def test_pass_at_k_of_real_rewards():
    # the pairs' best are 3, 3 and 1
    settings = Settings(pass_at_k=2, scale_rewards="none")
    assert advantages(group_of([3.0, 1.0, 0.0]), settings) == approx([2 / 3, -1 / 3, -1 / 3])
    with_others = Settings(pass_at_k=2, scale_rewards="none", baseline="leave_one_out")
    assert advantages(group_of([3.0, 1.0, 0.0]), with_others) == approx([1, -0.5, -0.5])


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("num_right", [0, 1, 3, 8])
def test_best_of_k_averages_to_the_unbiased_pass_at_k(k, num_right):
    raised, spread = best_of_k([1.0] * num_right + [0.0] * (8 - num_right), k)
    pass_at_k = 1 - math.comb(8 - num_right, k) / math.comb(8, k)
    assert fmean(raised) == approx(pass_at_k)
    assert spread == pytest.approx(math.sqrt(pass_at_k * (1 - pass_at_k)), abs=1e-12)


def test_best_of_one_is_the_reward_and_best_of_more_than_all_the_maximum():
    assert best_of_k([0.3, -1.0, 2.0], 1)[0] == [0.3, -1.0, 2.0]
    assert best_of_k([0.3, -1.0, 2.0], 5) == ([2.0, 2.0, 2.0], 0.0)


def test_decoupled_normalization():
    # each function's scores are 1 and 0: z-scores +-z, which the weights 1 and 0.5 leave at +-z/2, std z / sqrt 2
    answers = [
        make_answer(1.0, scores={"accuracy": 1.0, "format": 0.0}),
        make_answer(0.5, scores={"accuracy": 0.0, "format": 1.0}),
    ]
    z = 0.5 / (ROOT_HALF + 1e-4)
    expected = 0.5 * z / (z * ROOT_HALF + 1e-4)
    settings = Settings(multi_objective_aggregation="normalize_then_sum")
    assert advantages(answers, settings) == approx([expected, -expected])
    for unusable in ({"pass_at_k": 2}, {"kl_in": "reward"}):
        with pytest.raises(ValueError, match="normalize_then_sum"):
            advantages(answers, replace(settings, **unusable))


@pytest.mark.parametrize(
    ("estimator", "penalty"), [("k1", 1.0), ("k2", 0.25), ("k3", 2 * (math.exp(-0.5) - 0.5))], ids=["k1", "k2", "k3"]
)
def test_kl_in_the_reward_is_of_the_policy_that_sampled_over_the_tokens_in_the_loss(estimator, penalty):
    ref = [math.log(OLD) - 0.5] * 3
    away = make_answer(1.0, (5.0, 0.1, 3.0), ref_logprobs=ref, from_environment=[False, True, False])
    cut = make_answer(0.0, (2.0, 2.0, 2.0), ref_logprobs=ref, truncated=True)
    settings = Settings(
        scale_rewards="none", kl_in="reward", kl_estimator=estimator, beta=0.1, mask_truncated_completions=True
    )
    half = (1 - 0.1 * penalty) / 2
    assert advantages([away, cut], settings) == approx([half, -half])
    assert evaluate([away, cut], settings).loss == approx(-1.2 * half)  # both ratios are clipped; no KL in the loss


# ---------------------------------------------------------------- policy losses


@pytest.mark.parametrize(
    ("policy_loss", "more", "advantage", "ratios", "loss", "gradients"),
    [
        ("clip", {}, 1, (1.5, 1.1), -(1.2 + 1.1) / 2, (0, -1.1 / 2)),
        ("clip", {}, 1, (0.5, 1.0), -(0.5 + 1.0) / 2, (-0.25, -0.5)),
        ("clip", {}, -1, (0.5, 1.5), (0.8 + 1.5) / 2, (0, 0.75)),
        ("clip", {"epsilon_high": 0.6}, 1, (1.5, 1.7), -(1.5 + 1.6) / 2, (-0.75, 0)),
        ("clip", {"epsilon_high": 0.6}, -1, (1.5, 1.7), (1.5 + 1.7) / 2, (0.75, 0.85)),
        ("clip", {"delta": 3.0}, -1, (4.0, 2.0), (3 + 2) / 2, (0, 1)),
        ("clip", {"delta": 3.0}, 1, (4.0, 1.0), -(1.2 + 1) / 2, (0, -0.5)),
        ("gspo", {}, 1, (1.21, 1.0), -1.1, (-0.55, -0.55)),
        ("gspo", {}, 1, (1.44, 1.44), -1.2, (0, 0)),
        ("gspo", {}, -1, (0.25, 1.0), 0.8, (0, 0)),
        ("gspo", {"delta": 3.0}, -1, (16.0, 1.0), 3, (0, 0)),
        ("gspo_token", {}, 1, (1.21, 1.0), -1.1, (-0.55, -0.55)),
        ("gspo_token", {}, 1, (1.44, 1.44), -1.2, (0, 0)),
        ("cispo", {}, 1, (1.5, 0.5), -(1.2 * math.log(0.3) + 0.8 * math.log(0.1)) / 2, (-0.6, -0.4)),
        ("cispo", {}, -1, (1.1, 0.5), (1.1 * math.log(0.22) + 0.8 * math.log(0.1)) / 2, (0.55, 0.4)),
        ("sapo", {}, 1, (1.0, 2.0), -(2 + 4 * SIGMOID_1) / 2, (-0.5, -4 * SIGMOID_1 * (1 - SIGMOID_1))),
        ("sapo", {"sapo_temperature_neg": 2.0}, -1, (1.0, 1.5), (1 + 2 * SIGMOID_1) / 2,
         (0.5, 1.5 * 2 * SIGMOID_1 * (1 - SIGMOID_1))),
        ("gmpo", {"epsilon_high": 0.4}, 1, (math.exp(1), math.exp(0.2)), -math.exp(0.3), (0, -math.exp(0.3) / 2)),
        ("gmpo", {"epsilon": 0.4}, -1, (math.exp(-1), math.exp(0.2)), math.exp(-0.1), (0, math.exp(-0.1) / 2)),
        ("gmpo", {}, 1, (math.exp(-1), 1.0), -math.exp(-0.5), (-math.exp(-0.5) / 2, -math.exp(-0.5) / 2)),
        ("reinforce", {}, 1, (1.5, 0.5), -(math.log(0.3) + math.log(0.1)) / 2, (-0.5, -0.5)),
        ("dppo", {}, 1, (2.0, 0.1), -0.1 / 2, (0, -0.05)),  # 0.2 -> 0.4 is too far; 0.2 -> 0.02 is on the way back
        ("dppo", {}, -1, (0.1, 2.0), 2 / 2, (0, 1)),
        ("dppo", {"dppo_threshold": 0.25}, 1, (2.0, 1.0), -(2 + 1) / 2, (-1, -0.5)),
    ],
)  # fmt: skip
def test_policy_term(policy_loss, more, advantage, ratios, loss, gradients):
    outcome = lone(advantage, ratios, Settings(policy_loss=policy_loss, **more))
    assert outcome.loss == approx(loss)
    assert outcome.policy_gradients[0] == approx(gradients)


@pytest.mark.parametrize("policy_loss", LOSSES)
def test_a_token_of_the_environment_is_nowhere_in_the_loss(policy_loss):
    settings = Settings(
        policy_loss=policy_loss,
        importance_sampling_correction=True,
        importance_sampling_mode="sequence_truncate",
        beta=0.1,
        entropy_coef=0.1,
    )
    without = lone(1, (1.1, 0.9), settings)
    mixed = lone(1, (1.1, 7.0, 0.9), settings, from_environment=[False, True, False], behavior_logprobs=[
        math.log(OLD), 0.0, math.log(OLD)])  # fmt: skip
    assert mixed.loss == approx(without.loss)
    assert mixed.policy_gradients[0] == approx([without.policy_gradients[0][0], 0.0, without.policy_gradients[0][1]])
    assert mixed.entropy_gradients[0] == approx([-0.05, 0.0, -0.05])


# ---------------------------------------------------------------- corrections


@pytest.mark.parametrize(
    ("mode", "weights", "expected"),
    [
        ("token_truncate", (3.0, 0.25), (2.0, 0.25)),
        ("token_mask", (3.0, 0.8), (0.0, 0.8)),
        ("token_mask", (0.4, 1.9), (0.0, 1.9)),
        ("sequence_truncate", (3.0, 0.8), (2.0, 2.0)),
        ("sequence_truncate", (0.5, 0.5), (0.25, 0.25)),
        ("sequence_mask", (3.0, 0.5), (1.5, 1.5)),
        ("sequence_mask", (3.0, 0.8), (0.0, 0.0)),
        ("sequence_mask", (0.5, 0.5), (0.0, 0.0)),
    ],
)
def test_correction_between_0_5_and_2(mode, weights, expected):
    behavior = [math.log(OLD / weight) for weight in weights]
    settings = Settings(importance_sampling_correction=True, importance_sampling_mode=mode)
    outcome = lone(1, (1.0, 1.0), settings, behavior_logprobs=behavior)
    assert outcome.loss == approx(-sum(expected) / 2)
    assert outcome.policy_gradients[0] == approx([-weight / 2 for weight in expected])

    off = lone(1, (1.0, 1.0), replace(settings, importance_sampling_correction=False), behavior_logprobs=behavior)
    assert off.loss == approx(-1)
    kl_alone = lone(1, (1.0, 1.0), replace(settings, beta=1.0), behavior_logprobs=behavior, ref_logprobs=[0.0, 0.0])
    assert kl_alone.loss - outcome.loss == approx(1 / OLD - 1 + math.log(OLD))  # not multiplied by the correction


def test_reinforce_corrects_from_the_engine_to_the_policy_now():
    settings = Settings(policy_loss="reinforce", importance_sampling_correction=True)
    outcome = lone(1, (1.5, 4.0), settings)
    assert outcome.policy_gradients[0] == approx([-0.75, -1.0])
    assert lone(1, (1.5, 4.0), replace(settings, old="behavior")).policy_gradients == outcome.policy_gradients


def test_old_behavior_takes_the_ratio_to_the_engine_and_corrects_nothing():
    settings = Settings(old="behavior", importance_sampling_correction=True, importance_sampling_cap=0.5)
    outcome = lone(1, (1.1, 1.0), settings, behavior_logprobs=[math.log(OLD * 1.1), math.log(OLD / 1.1)])
    assert outcome.loss == approx(-(1.0 + 1.1) / 2)
    assert outcome.policy_gradients[0] == approx([-0.5, -0.55])


@pytest.mark.parametrize(
    ("advantage", "threshold", "expected"), [(-1, 0.5, 0.0), (-1, 0.7, (0.8 + 0.8) / 2), (1, 0.5, -math.exp(-0.6))]
)
def test_off_policy_mask_drops_bad_answers_that_the_policy_left_behind(advantage, threshold, expected):
    settings = Settings(off_policy_mask_threshold=threshold, beta=0.1, kl_estimator="k2")
    outcome = lone(advantage, (math.exp(-0.6),) * 2, settings)
    assert outcome.loss == approx(expected + 0.1 * 0.36 / 2)  # KL is not masked


@pytest.mark.parametrize(("ratio_to_behavior", "expected"), [(math.exp(-0.6), 0.0), (math.exp(-0.4), 1.0)])
def test_off_policy_mask_measures_from_the_engine(ratio_to_behavior, expected):
    behavior = [math.log(OLD / ratio_to_behavior)]
    outcome = lone(-1, (1.0,), Settings(off_policy_mask_threshold=0.5), behavior_logprobs=behavior)
    assert outcome.loss == approx(expected)


@pytest.mark.parametrize(
    ("quantile", "kept"),
    [(1.0, (1, 1, 1, 1, 1)), (0.4, (0, 1, 0, 0, 1)), (0.5, (0, 1, 1, 0, 1)), (0.0, (0, 1, 0, 0, 0))],
)
def test_top_entropy_tokens_alone_carry_the_policy_term(quantile, kept):
    settings = Settings(top_entropy_quantile=quantile)
    outcome = lone(1, (1.0,) * 5, settings, entropies=[0.1, 5.0, 3.0, 0.2, 4.0])
    assert outcome.policy_gradients[0] == approx([-flag / 5 for flag in kept])
    assert outcome.loss == approx(-sum(kept) / 5)
    assert outcome.entropy_gradients[0] == [0.0] * 5


# ---------------------------------------------------------------- KL, entropy, aggregation


@pytest.mark.parametrize(
    ("estimator", "value", "derivative"),
    [("k1", math.log(2), 1), ("k2", math.log(2) ** 2 / 2, math.log(2)), ("k3", 0.5 - 1 + math.log(2), 0.5)],
)
@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_kl_in_the_loss(estimator, value, derivative, ratio):
    # an answer of advantage 0 whose reference is half as likely as the policy
    settings = Settings(beta=0.1, kl_estimator=estimator)
    ref = [math.log(OLD * ratio / 2)]
    plain = lone(0, (ratio,), settings, ref_logprobs=ref)
    assert plain.loss == approx(0.1 * value)
    assert plain.policy_gradients[0] == approx([0.1 * derivative])

    corrected = lone(0, (ratio,), replace(settings, kl_importance_correction=True), ref_logprobs=ref)
    assert corrected.loss == approx(0.1 * ratio * value)
    assert corrected.policy_gradients[0] == approx([0.1 * ratio * (value + derivative)])


def test_entropy_bonus_is_aggregated_as_the_loss_is():
    answers = [make_answer(0.0, entropies=[2.0]), make_answer(0.0, (1.0, 1.0), entropies=[1.0, 4.0])]
    outcome = evaluate(answers, Settings(entropy_coef=0.1, loss_type="grpo"))
    assert outcome.loss == approx(-0.1 * (2.0 + 2.5) / 2)
    assert outcome.entropy_gradients[0] == approx([-0.05])
    assert outcome.entropy_gradients[1] == approx([-0.025, -0.025])


@pytest.mark.parametrize(
    ("loss_type", "short", "long"), [("dapo", 1 / 4, 1 / 4), ("grpo", 1 / 3, 1 / 9), ("dr_grpo", 1 / 30, 1 / 30)]
)
def test_aggregation_counts_masked_answers_and_not_unscored_ones(loss_type, short, long):
    answers = [
        make_answer(1.0),
        make_answer(-1.0, (1.0, 1.0, 1.0)),
        make_answer(0.0, (1.0,) * 7, truncated=True),
        make_answer(None, (1.0,) * 5),
    ]
    settings = Settings(
        scale_rewards="none", loss_type=loss_type, mask_truncated_completions=True, max_completion_length=10
    )
    outcome = evaluate(answers, settings)
    assert outcome.policy_gradients == [approx([-short]), approx([long] * 3), [0.0] * 7, [0.0] * 5]
    assert outcome.loss == approx(-short + 3 * long)


def test_an_update_without_a_token_in_the_loss_is_zero():
    outcome = evaluate([make_answer(1.0, truncated=True)], Settings(mask_truncated_completions=True, beta=1.0))
    assert outcome.loss == 0.0
    assert outcome.policy_gradients == [[0.0]]


# ---------------------------------------------------------------- limits, on the 64 ragged answers


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    return make_answers()


@pytest.mark.parametrize("policy_loss", LOSSES)
def test_on_policy_all_losses_have_one_gradient(answers, policy_loss):
    current = [replace(answer, policy_logprobs=answer.old_logprobs) for answer in answers]
    expected = evaluate(current, Settings(policy_loss="reinforce", loss_type="dapo"))
    outcome = evaluate(current, Settings(policy_loss=policy_loss, loss_type="dapo"))
    assert outcome.policy_gradients == [approx(row) for row in expected.policy_gradients]
    assert any(any(row) for row in expected.policy_gradients)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("policy_loss", ["gspo", "gspo_token"])
def test_gspo_of_answers_of_one_token_is_clip(answers, policy_loss, loss_type):
    per_token = (
        "policy_logprobs",
        "old_logprobs",
        "behavior_logprobs",
        "ref_logprobs",
        "entropies",
        "from_environment",
    )
    short = [replace(answer, **{name: getattr(answer, name)[:1] for name in per_token}) for answer in answers]
    settings = Settings(loss_type=loss_type, epsilon_high=0.28, delta=3.0)
    expected = evaluate(short, settings)
    outcome = evaluate(short, replace(settings, policy_loss=policy_loss))
    assert outcome.loss == approx(expected.loss)
    assert outcome.policy_gradients == [approx(row) for row in expected.policy_gradients]


def test_dr_grpo_of_equal_lengths_is_grpo_up_to_the_scale(answers):
    equal = [
        replace(
            answers[i],
            **{
                name: (list(getattr(answers[i], name)) * 40)[:6]
                for name in ("policy_logprobs", "old_logprobs", "behavior_logprobs", "ref_logprobs", "entropies")
            },
            from_environment=[False] * 6,
        )
        for i in range(16)
    ]
    grpo = evaluate(equal, Settings(loss_type="grpo", beta=0.1))
    dr_grpo = evaluate(equal, Settings(loss_type="dr_grpo", beta=0.1, max_completion_length=30))
    assert dr_grpo.loss == approx(grpo.loss * 6 / 30)
    assert dr_grpo.policy_gradients == [approx([g * 6 / 30 for g in row]) for row in grpo.policy_gradients]


@pytest.mark.parametrize("policy_loss", ["clip", "gspo", "sapo", "gmpo", "dppo"])
def test_gradients_are_the_slopes_of_the_value(answers, policy_loss):
    own = answers[:8]
    settings = Settings(policy_loss=policy_loss, beta=0.1, kl_importance_correction=True, entropy_coef=0.1)
    gradients = evaluate(own, settings).policy_gradients

    def loss_with(i: int, t: int, shift: float) -> float:
        moved = list(own[i].policy_logprobs)
        moved[t] += shift
        return evaluate([*own[:i], replace(own[i], policy_logprobs=moved), *own[i + 1 :]], settings).loss

    for i in range(0, 8, 3):
        t = len(gradients[i]) // 2
        slope = (loss_with(i, t, 1e-6) - loss_with(i, t, -1e-6)) / 2e-6
        assert slope == pytest.approx(gradients[i][t], rel=1e-6, abs=1e-9)
