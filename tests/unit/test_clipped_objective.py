"""The whole loss, from scored groups to value and gradient, against loops written from the papers' formulas."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from grpo.datatypes import Group
from grpo.objective import objective_terms
from grpo.objective.kl import k3
from grpo.packing import token_weights
from grpo.recipe import Algorithm
from tests.factories import make_ragged_group, make_tokens, samples_of

MAX_LENGTH = 12
EXACT = {"rtol": 0, "atol": 1e-10}

CASES = [
    pytest.param(*case, id="-".join(map(str, case)))
    for case in itertools.product(
        ("grpo", "dapo", "dr_grpo"),  # loss_type
        (0.0, 0.04),  # beta
        (None, 2.0),  # importance_sampling_cap
        ((0.2, 0.2), (0.2, 0.28)),  # epsilon, epsilon_high
        (False, True),  # mask_truncated
    )
]


@dataclass(frozen=True)
class Case:
    """Ragged groups with, for every token of every scored answer, the log-probabilities of each policy."""

    groups: list[Group]
    policy: list[Tensor]  # per scored answer (L,), float64, over its completion alone
    old: list[Tensor]
    ref: list[Tensor]


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(11)
    groups = [make_ragged_group(rng, ordinal, 7) for ordinal in range(3)]
    policy, old, ref = [], [], []
    for group in groups:
        for member in group.scored:
            behavior = member.completion.behavior_logprobs.astype(np.float64)
            old_L = behavior + rng.normal(0, 0.6, behavior.shape)  # noqa: N806 - some ratios beyond the cap
            old.append(torch.from_numpy(old_L))
            policy.append(torch.from_numpy(old_L + rng.normal(0, 0.3, behavior.shape)))
            ref.append(torch.from_numpy(old_L + rng.normal(0, 0.5, behavior.shape)))
    return Case(groups, policy, old, ref)


def make_objective(*, beta=0.0, cap=None, epsilons=(0.2, 0.28), **keys) -> Algorithm:
    corrected = {"importance_sampling_cap": cap} if cap else {"importance_sampling_correction": False}
    return Algorithm(epsilon=epsilons[0], epsilon_high=epsilons[1], beta=beta, **corrected, **keys)


def our_loss(case, policy, loss_type, objective, mask_truncated) -> Tensor:
    """The project's path: samples, token weights, terms, one weighted sum."""
    samples = samples_of(case.groups, Algorithm(), mask_truncated=mask_truncated)
    weights = token_weights(samples, loss_type, max_completion_length=MAX_LENGTH)
    total = torch.zeros((), dtype=torch.float64)
    for i, sample in enumerate(samples):
        mask = sample.loss_mask_L
        answer = torch.from_numpy(mask[sample.prompt_length :])
        tokens = make_tokens(
            policy[i][answer],
            case.old[i][answer],
            torch.from_numpy(sample.behavior_logprobs_L[mask].astype(np.float64)),
            case.ref[i][answer] if objective.beta else None,
            torch.full((int(mask.sum()),), sample.advantage, dtype=torch.float64),
        )
        terms = objective_terms(tokens, objective)
        total = total + (torch.from_numpy(weights[i][mask]) * terms.loss_N).sum()
    return total


def brute_force_loss(case, policy, loss_type, beta, cap, epsilons, mask_truncated) -> Tensor:
    """Token by token, from the formulas: DeepSeekMath (2402.03300) eq. 3 and 4, DAPO (2503.14476) eq. 8,
    Dr.GRPO (2503.20783), truncated importance sampling (2505.24298)."""
    answers = []  # (advantage, [(policy, old, behavior, ref) of each token that the loss counts])
    place = 0
    for group in case.groups:
        rewards = [member.reward for member in group.members if member.reward is not None]
        mean = sum(rewards) / len(rewards)
        std = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
        for member in group.members:
            if member.reward is None:
                continue
            tokens, t = [], 0
            for segment in member.completion.segments:
                for behavior in segment.behavior_logprobs:
                    cut = mask_truncated and member.completion.finish_reason == "length"
                    if segment.source == "policy" and not cut:
                        values = (policy[place][t], float(case.old[place][t]), float(behavior), case.ref[place][t])
                        tokens.append(values)
                    t += 1
            answers.append(((member.reward - mean) / (std + 1e-4), tokens))
            place += 1

    objective = torch.zeros((), dtype=torch.float64)
    all_tokens = sum(len(tokens) for _, tokens in answers)
    for advantage, tokens in answers:
        for now, old, behavior, ref in tokens:
            ratio = torch.exp(now - old)
            low, high = 1 - epsilons[0], 1 + epsilons[1]
            if advantage >= 0:  # the smaller of the two surrogates, case by case (PPO's figure 1)
                surrogate = advantage * (ratio if ratio < high else high)
            else:
                surrogate = advantage * (ratio if ratio > low else low)
            if cap is not None:
                surrogate = surrogate * min(math.exp(old - behavior), cap)
            penalty = torch.exp(ref - now) - (ref - now) - 1
            gain = surrogate - beta * penalty
            if loss_type == "dapo":
                objective = objective + gain / all_tokens
            elif loss_type == "grpo":
                objective = objective + gain / len(tokens) / len(answers)
            else:
                objective = objective + gain / MAX_LENGTH / len(answers)
    return -objective


def with_gradient(values: list[Tensor]) -> list[Tensor]:
    return [value.clone().requires_grad_() for value in values]


@pytest.mark.parametrize(("loss_type", "beta", "cap", "epsilons", "mask_truncated"), CASES)
def test_value_and_gradient_equal_a_brute_force_loop(case, loss_type, beta, cap, epsilons, mask_truncated):
    objective = make_objective(beta=beta, cap=cap, epsilons=epsilons)
    ours, theirs = with_gradient(case.policy), with_gradient(case.policy)
    loss = our_loss(case, ours, loss_type, objective, mask_truncated)
    expected = brute_force_loss(case, theirs, loss_type, beta, cap, epsilons, mask_truncated)
    np.testing.assert_allclose(loss.item(), expected.item(), **EXACT)
    loss.backward()
    expected.backward()
    gradients = [zero_if_none(leaf) for leaf in ours]
    for gradient, leaf in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(gradient.numpy(), zero_if_none(leaf).numpy(), **EXACT)
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-3  # the comparison is of something


def zero_if_none(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def test_the_case_holds_every_kind_of_token(case):
    """Otherwise the comparison above would pass without having met the branch."""
    members = [member for group in case.groups for member in group.members]
    assert any(member.reward is None for member in members)
    assert {member.completion.finish_reason for member in members} == {"stop", "length"}
    assert any(not member.completion.loss_mask.all() for member in members)
    samples = samples_of(case.groups, Algorithm())
    kinds = set()
    for i, sample in enumerate(samples):
        answer = torch.from_numpy(sample.loss_mask_L[sample.prompt_length :])
        behavior = torch.from_numpy(sample.behavior_logprobs_L[sample.loss_mask_L].astype(np.float64))
        old, policy = case.old[i][answer], case.policy[i][answer]
        ratios, corrections = torch.exp(policy - old), torch.exp(old - behavior)
        kinds |= {("capped", bool(above)) for above in corrections > 2.0}
        kinds |= {
            (sample.advantage > 0, "low" if r < 0.8 else "high" if r > 1.28 else "between" if r > 1.2 else "inside")
            for r in ratios
        }
    clips = itertools.product((True, False), ("low", "inside", "between", "high"))
    assert kinds == {("capped", True), ("capped", False), *clips}


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_gradient_equals_finite_differences(case, loss_type):
    objective = make_objective(beta=0.04, cap=2.0)
    leaves = with_gradient(case.policy)
    our_loss(case, leaves, loss_type, objective, True).backward()
    step = 1e-6
    for i, leaf in enumerate(leaves[::2]):
        for t in range(len(leaf)):
            sides = []
            for sign in (1, -1):
                moved = [value.clone() for value in case.policy]
                moved[2 * i][t] += sign * step
                sides.append(our_loss(case, moved, loss_type, objective, True).item())
            assert zero_if_none(leaf)[t].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-8)


def terms_of(ratio: float, advantage: float, *, old_over_behavior: float = 1.0, cap: float | None = None):
    policy = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    behavior = zero - math.log(old_over_behavior)
    terms = objective_terms(make_tokens(policy, zero, behavior, None, zero + advantage), make_objective(cap=cap))
    (gradient,) = torch.autograd.grad(terms.loss_N.sum(), policy)
    return terms, gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "low", "high"),
    [
        (1.0, 1.0, -1.0, -1.0, False, False),
        (1.27, 1.0, -1.27, -1.27, False, False),
        (1.5, 1.0, -1.28, 0.0, False, True),  # far enough up: no more push
        (0.5, 1.0, -0.5, -0.5, False, False),  # fallen below although good: full push back
        (1.5, -1.0, 1.5, 1.5, False, False),
        (0.81, -1.0, 0.81, 0.81, False, False),
        (0.5, -1.0, 0.8, 0.0, True, False),
        (0.5, 0.0, 0.0, 0.0, False, False),
    ],
)
def test_clipping_stops_only_the_push_that_goes_on(ratio, advantage, loss, gradient, low, high):
    terms, found = terms_of(ratio, advantage)
    assert terms.loss_N.item() == pytest.approx(loss, abs=1e-12)
    assert found == pytest.approx(gradient, abs=1e-12)
    assert (terms.clipped_low_N.item(), terms.clipped_high_N.item()) == (low, high)


@pytest.mark.parametrize(
    ("old_over_behavior", "cap", "factor"), [(1.0, 2.0, 1.0), (0.25, 2.0, 0.25), (8.0, 2.0, 2.0), (8.0, None, 1.0)]
)
def test_the_correction_scales_the_gradient_and_is_capped(old_over_behavior, cap, factor):
    terms, gradient = terms_of(1.1, 1.0, old_over_behavior=old_over_behavior, cap=cap)
    assert terms.correction_N.item() == pytest.approx(factor)
    assert gradient == pytest.approx(-1.1 * factor)


def test_the_correction_carries_no_gradient():
    old = torch.zeros(3, requires_grad=True)
    tokens = make_tokens(old, old, torch.ones(3), None, torch.ones(3))
    assert not objective_terms(tokens, make_objective(cap=2.0)).correction_N.requires_grad


def test_the_correction_leaves_the_kl_alone():
    policy, ref = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([-1.5], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    tokens = make_tokens(policy, policy, policy - math.log(0.5), ref, zero)
    terms = objective_terms(tokens, make_objective(beta=0.1, cap=2.0))
    assert terms.loss_N.item() == pytest.approx(0.1 * (math.exp(-0.5) + 0.5 - 1), abs=1e-15)


def test_k3_is_unbiased_never_negative_and_zero_only_where_both_agree():
    generator = torch.Generator().manual_seed(0)
    policy, ref = (torch.randn(50, generator=generator, dtype=torch.float64).log_softmax(0) for _ in range(2))
    estimates = k3(policy, ref)
    exact = (policy.exp() * (policy - ref)).sum()
    assert (policy.exp() * estimates).sum().item() == pytest.approx(exact.item(), abs=1e-12)
    assert estimates.min() > 0
    assert k3(policy, policy).abs().max() == 0


def test_on_policy_the_gradient_is_the_plain_policy_gradient():
    """With policy = old = behavior every variant is advantage x score, whatever the clip and the cap."""
    logprobs = torch.tensor([-0.3, -2.0, -1.0], dtype=torch.float64, requires_grad=True)
    same = logprobs.detach()
    advantages = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    objective_terms(
        make_tokens(logprobs, same, same, None, advantages), make_objective(cap=2.0)
    ).loss_N.sum().backward()
    np.testing.assert_allclose(logprobs.grad.numpy(), -advantages.numpy(), rtol=1e-15)


def test_no_loss_tokens_give_a_zero_loss_with_a_gradient_path():
    empty = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    tokens = make_tokens(empty, empty.detach(), empty.detach(), None, empty.detach())
    loss = objective_terms(tokens, make_objective()).loss_N.sum()
    assert loss.item() == 0
    assert loss.requires_grad
