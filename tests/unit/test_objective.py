"""The whole objective, from scored groups to value and gradient, against `brute_force`, for every combination."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from grpo.advantages import ready_group, to_samples, with_advantages
from grpo.datatypes import Group, Sample, Segment
from grpo.objective import objective_terms
from grpo.objective.corrections import CORRECTIONS
from grpo.objective.kl import KL_ESTIMATORS
from grpo.objective.policy_losses import POLICY_LOSSES
from grpo.packing import AGGREGATIONS, pack
from grpo.recipe import Algorithm
from rewards.verdict import Status, Verdict
from tests.factories import make_completion, make_prompt, make_scored, make_tokens
from tests.unit import brute_force
from tests.unit.brute_force import REWARD_WEIGHTS, Answer, Settings
from tests.unit.ragged_answers import make_answers

Keys = dict[str, Any]
MAX_LENGTH = 40
PROMPT = (3, 4, 5)

ADVANTAGES: dict[str, Keys] = {
    "grpo": {},
    "dr_grpo": {"scale_rewards": "none"},
    "batch_scaled": {"scale_rewards": "batch"},
    "max_rl": {"scale_rewards": "mean"},
    "rloo": {"baseline": "leave_one_out", "scale_rewards": "none"},
    "rloo_scaled": {"baseline": "leave_one_out", "scale_rewards": "group"},
    "reinforce_pp": {"baseline": "batch", "scale_rewards": "batch"},
    "batch_undivided": {"baseline": "batch", "scale_rewards": "none"},
    "pass_at_4": {"pass_at_k": 4},
    "pass_at_2_undivided": {"pass_at_k": 2, "scale_rewards": "none"},
    "gdpo": {"multi_objective_aggregation": "normalize_then_sum"},
}
LOSSES: dict[str, Keys] = {
    **{name: {"policy_loss": name, "epsilon": 0.2, "epsilon_high": 0.28} for name in POLICY_LOSSES},
    "dual_clip": {"policy_loss": "clip", "epsilon": 0.2, "epsilon_high": 0.28, "delta": 2.0},
    "gspo_narrow": {"policy_loss": "gspo", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "cispo_above_alone": {"policy_loss": "cispo", "epsilon": 1.0, "epsilon_high": 4.0},
    "top_entropy": {"policy_loss": "clip", "top_entropy_quantile": 0.2},
    "entropy_bonus": {"policy_loss": "clip", "entropy_coef": 0.01},
}
KLS: dict[str, Keys] = {
    "none": {},
    "k2": {"beta": 0.04, "kl_estimator": "k2"},
    "k3": {"beta": 0.04, "kl_estimator": "k3"},
    **{
        f"{name}_corrected": {"beta": 0.04, "kl_estimator": name, "kl_importance_correction": True}
        for name in KL_ESTIMATORS
    },
    **{f"{name}_in_reward": {"beta": 0.04, "kl_estimator": name, "kl_in": "reward"} for name in KL_ESTIMATORS},
}
OFF = {"importance_sampling_correction": False}
BOUNDS = {"importance_sampling_cap": 2.0, "importance_sampling_min": 0.5, "importance_sampling_correction": True}
CORRECTED: dict[str, Keys] = {
    "none": OFF,
    **{name: {"importance_sampling_mode": name, **BOUNDS} for name in CORRECTIONS},
    "off_policy_mask": {"off_policy_mask_threshold": 0.1, **OFF},
    "both": {"off_policy_mask_threshold": 0.1, "importance_sampling_mode": "token_mask", **BOUNDS},
    "behavior_is_old": {"old": "behavior", **BOUNDS},
}
AGGREGATED = list(AGGREGATIONS)


def combined(advantage: str, loss: str, kl: str, correction: str, number: int) -> Keys:
    """One objective; aggregation and masking go round with its number."""
    around = {
        "loss_type": AGGREGATED[number % 3],
        "mask_truncated_completions": number % 2 == 0,
    }
    return {**ADVANTAGES[advantage], **LOSSES[loss], **KLS[kl], **CORRECTED[correction], **around}


def is_defined(advantage: str, kl: str) -> bool:
    return not (advantage == "gdpo" and kl.endswith("in_reward"))


PAIRS = [  # of any two parts every pair of choices meets, but for a few of KL and correction
    (advantage, loss, list(KLS)[(a + 2 * b) % len(KLS)], list(CORRECTED)[(3 * a + b) % len(CORRECTED)])
    for (a, advantage), (b, loss) in itertools.product(enumerate(ADVANTAGES), enumerate(LOSSES))
]
EVERY = list(
    itertools.product(
        ADVANTAGES,
        POLICY_LOSSES,
        ("none", "k2", "k3", "k1_corrected", "k3_corrected", "k1_in_reward"),
        ("none", *CORRECTIONS, "off_policy_mask"),
    )
)


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    return make_answers()


def check(answers: list[Answer], keys: Keys) -> None:
    expected = brute_force.evaluate(answers, Settings(**keys, max_completion_length=MAX_LENGTH))
    loss, gradients, entropy_gradients = ours(answers, Algorithm(**keys))
    assert loss == pytest.approx(expected.loss, rel=0, abs=1e-10), keys
    for found, wanted in ((gradients, expected.policy_gradients), (entropy_gradients, expected.entropy_gradients)):
        for own, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-10, err_msg=str(keys))


@pytest.mark.parametrize("part", range(8))
def test_value_and_gradient_equal_brute_force(answers, part):
    for number, case in enumerate(PAIRS):
        if number % 8 == part and is_defined(case[0], case[2]):
            check(answers, combined(*case, number))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(16))
def test_every_combination_equals_brute_force(answers, part):
    for number, case in enumerate(EVERY):
        if number % 16 == part and is_defined(case[0], case[2]):
            check(answers, combined(*case, number))


def ours(answers: Sequence[Answer], algorithm: Algorithm) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """The project's own path: groups, samples, advantages, packed rows of 64 tokens, terms, weighted sums."""
    groups = groups_of(answers)
    ready = []
    for group, own in groups:
        samples = to_samples(group, mask_truncated=algorithm.mask_truncated_completions)
        samples = [with_old(sample, own[sample.sample_index], algorithm) for sample in samples]
        penalties = [penalty(s, own[s.sample_index], algorithm) for s in samples]
        ready.append(ready_group(group, samples, np.array(penalties)))
    samples = with_advantages(ready, algorithm, REWARD_WEIGHTS)
    sources = [own[s.sample_index] for (_, own), made in zip(groups, ready, strict=True) for s in made.samples]
    leaves = [leaf(answer.policy_logprobs) for answer in sources]
    entropies = [leaf(answer.entropies) for answer in sources]
    threshold = entropy_threshold(samples, sources, algorithm)
    loss = 0.0
    for row in pack(samples, algorithm.loss_type, max_completion_length=MAX_LENGTH, row_tokens=64).rows:
        mask = torch.from_numpy(row.loss_mask_T)
        policy_N, entropy_N = (joined([values[i] for i in row.members])[mask] for values in (leaves, entropies))  # noqa: N806
        ref_N = joined([leaf(sources[i].ref_logprobs) for i in row.members]).detach()[mask]  # noqa: N806
        tokens = make_tokens(
            policy_N,
            torch.from_numpy(row.old_logprobs_T).double()[mask],
            torch.from_numpy(row.behavior_logprobs_T).double()[mask],
            ref_N if algorithm.beta else None,
            torch.from_numpy(row.advantages_T)[mask],
            [int(samples[i].loss_mask_L.sum()) for i in row.members],
        )
        learned = None if threshold is None else entropy_N.detach() >= threshold
        terms = objective_terms(replace(tokens, entropies_N=entropy_N, learned_N=learned), algorithm)
        part = (torch.from_numpy(row.weights_T)[mask] * terms.loss_N).sum()
        if part.requires_grad:
            part.backward()
        loss += part.item()
    places = {id(answer): i for i, answer in enumerate(sources)}
    found = []
    for values in (leaves, entropies):
        gradients = [
            np.zeros(len(a.policy_logprobs)) if id(a) not in places else grad(values[places[id(a)]]) for a in answers
        ]
        found.append(gradients)
    return loss, found[0], found[1]


def groups_of(answers: Sequence[Answer]) -> list[tuple[Group, list[Answer]]]:
    """Scored groups with the answers that they are made from, by sample index."""
    made = []
    for number in sorted({answer.group for answer in answers}):
        own = [answer for answer in answers if answer.group == number]
        prompt = make_prompt(number, token_ids=PROMPT)
        members = []
        for index, answer in enumerate(own):
            segments = list(segments_of(answer))
            completion = make_completion(prompt, index, segments, "length" if answer.truncated else "stop")
            verdicts = {n: Verdict(score=s, status=Status.CORRECT) for n, s in answer.scores.items()}
            unscored = {name: Verdict(score=None, status=Status.HARNESS_ERROR) for name in REWARD_WEIGHTS}
            members.append(replace(make_scored(completion, answer.reward), verdicts=verdicts or unscored))
        made.append((Group(prompt=prompt, members=tuple(members)), own))
    return made


def segments_of(answer: Answer) -> list[Segment]:
    """Runs of tokens by who wrote them."""
    runs = itertools.groupby(range(len(answer.policy_logprobs)), key=lambda t: answer.from_environment[t])
    segments = []
    for foreign, run in runs:
        places = list(run)
        segments.append(
            Segment(
                token_ids=np.full(len(places), 7),
                behavior_logprobs=np.array([answer.behavior_logprobs[t] for t in places], np.float32),
                version=0,
                source="environment" if foreign else "policy",
            )
        )
    return segments


def with_old(sample: Sample, answer: Answer, algorithm: Algorithm) -> Sample:
    old = answer.behavior_logprobs if algorithm.old == "behavior" else answer.old_logprobs
    return replace(sample, old_logprobs_L=np.array([0.0] * len(PROMPT) + list(old), np.float32))


def penalty(sample: Sample, answer: Answer, algorithm: Algorithm) -> float:
    if not algorithm.beta or algorithm.kl_in == "loss":
        return 0.0
    mask = torch.from_numpy(sample.loss_mask_L[len(PROMPT) :])
    old = torch.from_numpy(sample.old_logprobs_L[len(PROMPT) :]).double()[mask]
    ref = torch.tensor(answer.ref_logprobs, dtype=torch.float64)[mask]
    return algorithm.beta * float(KL_ESTIMATORS[algorithm.kl_estimator](old, ref).sum())


def entropy_threshold(samples: Sequence[Sample], sources: Sequence[Answer], algorithm: Algorithm) -> float | None:
    if algorithm.top_entropy_quantile == 1:
        return None
    masks = [sample.loss_mask_L[len(PROMPT) :] for sample in samples]
    counted = [np.array(answer.entropies)[mask] for answer, mask in zip(sources, masks, strict=True)]
    return float(np.quantile(np.concatenate(counted), 1 - algorithm.top_entropy_quantile))


def leaf(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Packed, each behind its prompt."""
    return torch.cat([torch.cat([torch.zeros(len(PROMPT), dtype=torch.float64), part]) for part in parts])


def grad(value: Tensor) -> np.ndarray:
    return np.zeros(len(value)) if value.grad is None else value.grad.numpy()
