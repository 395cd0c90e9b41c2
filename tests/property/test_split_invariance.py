"""Loss and gradient do not change under any split into micro-batches, rows, row sizes, or order of samples."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo.datatypes import Sample
from grpo.learner import Learner, Policy
from grpo.objective import objective_terms
from grpo.objective.corrections import CORRECTIONS
from grpo.objective.kl import KL_ESTIMATORS
from grpo.objective.policy_losses import POLICY_LOSSES
from grpo.packing import pack
from grpo.recipe import Algorithm
from tests.factories import make_ragged_samples, make_recipe, make_tokens
from tests.models import write_dense, write_moe

LOSS_TYPES = st.sampled_from(["grpo", "dapo", "dr_grpo"])
OBJECTIVES = st.builds(
    Algorithm,
    loss_type=LOSS_TYPES,
    policy_loss=st.sampled_from(list(POLICY_LOSSES)),
    importance_sampling_mode=st.sampled_from(list(CORRECTIONS)),
    off_policy_mask_threshold=st.sampled_from([None, 0.1]),
    kl_estimator=st.sampled_from(list(KL_ESTIMATORS)),
    kl_importance_correction=st.booleans(),
    epsilon=st.just(0.2),
    epsilon_high=st.just(0.28),
    beta=st.just(0.04),
    entropy_coef=st.sampled_from([0.0, 0.01]),
)
FP32 = 1e-5  # of the largest gradient


def loss_and_gradient(samples: Sequence[Sample], objective: Algorithm, row_tokens: int) -> tuple[float, np.ndarray]:
    """Each row backward on its own, as a micro-batch is; the gradient in the order of ``sample_index``."""
    policy = {s.sample_index: float64(s.old_logprobs_L).add(0.3 * float64(s.token_ids_L).sin()) for s in samples}
    leaves = {index: value.requires_grad_() for index, value in policy.items()}
    loss = 0.0
    for row in pack(samples, objective.loss_type, max_completion_length=12, row_tokens=row_tokens).rows:
        mask = torch.from_numpy(row.loss_mask_T)
        policy_T = torch.cat([leaves[samples[member].sample_index] for member in row.members])  # noqa: N806
        tokens = make_tokens(
            policy_T[mask],
            float64(row.old_logprobs_T)[mask],
            float64(row.behavior_logprobs_T)[mask],
            policy_T.detach()[mask] - 0.1,
            float64(row.advantages_T)[mask],
            [int(samples[member].loss_mask_L.sum()) for member in row.members],
        )
        terms = objective_terms(replace(tokens, entropies_N=policy_T[mask].square()), objective)
        part = (float64(row.weights_T)[mask] * terms.loss_N).sum()
        part.backward()
        loss += part.item()
    return loss, np.concatenate([leaves[index].grad.numpy() for index in sorted(leaves)])


def float64(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).to(torch.float64)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**20),
    count=st.integers(1, 12),
    objective=OBJECTIVES,
    row_tokens=st.integers(1, 300),
    order=st.randoms(use_true_random=False),
)
def test_in_float64_no_split_and_no_order_changes_loss_or_gradient(seed, count, objective, row_tokens, order):
    samples = make_ragged_samples(seed, count)
    whole = loss_and_gradient(samples, objective, 10**6)
    order.shuffle(samples)
    split = loss_and_gradient(samples, objective, row_tokens)
    assert split[0] == pytest.approx(whole[0], abs=1e-10)
    np.testing.assert_allclose(split[1], whole[1], rtol=0, atol=1e-10)


@pytest.fixture(scope="module", params=[write_moe, write_dense], ids=["moe", "tied_dense"])
def policy(request, tmp_path_factory) -> Policy:
    return Policy.load(str(request.param(tmp_path_factory.mktemp("model"))), dtype=torch.float32, device="cpu")


def learner_gradients(
    policy: Policy, samples: Sequence[Sample], objective: dict[str, Any], row_tokens: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """Of one real step; the policy is left as it was."""
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    recipe = make_recipe(
        algorithm={"epsilon_high": 0.28, "beta": 0.04, **objective},
        learner={"row_tokens": row_tokens, "max_grad_norm": 1e9},
    )
    learner = Learner(policy, recipe)
    with torch.no_grad():
        for parameter in learner.reference.model.parameters():
            parameter.mul_(1.05)  # a reference that differs, so that its term has a gradient
    gradients: dict[str, torch.Tensor] = {}
    step = learner.optimizer.step

    def record_and_step() -> float:
        gradients.update({name: p.grad.clone() for name, p in policy.model.named_parameters()})
        return step()

    learner.optimizer.step = record_and_step
    loss = learner.step(samples).loss
    policy.model.load_state_dict(before)
    return loss, gradients


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**20),
    count=st.integers(2, 8),
    objective=st.fixed_dictionaries(
        {
            "loss_type": LOSS_TYPES,
            "policy_loss": st.sampled_from(["clip", "gspo", "gmpo"]),
            "importance_sampling_mode": st.sampled_from(["token_truncate", "sequence_truncate"]),
            "entropy_coef": st.sampled_from([0.0, 0.01]),
            "top_entropy_quantile": st.sampled_from([1.0, 0.5]),
        }
    ),
    row_tokens=st.sampled_from([1, 7, 16, 25, 40, 64, 100, 4096]),
    order=st.randoms(use_true_random=False),
)
def test_through_the_learner_no_split_and_no_order_changes_loss_or_gradient(
    policy, seed, count, objective, row_tokens, order
):
    samples = near_policy(policy, make_ragged_samples(seed, count))
    whole = learner_gradients(policy, samples, objective, 10**6)
    order.shuffle(samples)
    split = learner_gradients(policy, samples, objective, row_tokens)
    assert split[0] == pytest.approx(whole[0], rel=FP32, abs=FP32)
    largest = max(float(gradient.abs().max()) for gradient in whole[1].values())
    for name, gradient in whole[1].items():
        difference = float((split[1][name] - gradient).abs().max())
        assert difference <= FP32 * max(largest, 1e-3), name


def near_policy(policy: Policy, samples: Sequence[Sample]) -> list[Sample]:
    """Old and behavior log-probabilities near the policy's own, so that ratios are neither 0 nor infinite.

    Ratios stay away from the clip's corners, where rounding alone would change the gradient.
    """
    offsets = np.array([-0.4, -0.1, 0.0, 0.1, 0.4], np.float32)
    placed = []
    for sample in samples:
        own = np.concatenate([[0.0], policy.score(sample.token_ids_L.tolist())]).astype(np.float32)
        old = own + offsets[sample.token_ids_L % 5]
        placed.append(replace(sample, old_logprobs_L=old, behavior_logprobs_L=old + offsets[sample.token_ids_L % 3]))
    return placed
