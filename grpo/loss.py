"""The clipped policy-gradient loss, pure: terms per token; the aggregation is the caller's weights.

Shapes: N loss tokens (the packed tokens T that the policy wrote). All inputs are log-probabilities in nats.
Three policies, three names: ``behavior`` (the engine, while sampling), ``old`` (the learner, at the version that
sampled), ``policy`` (the learner, now).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The constants of the loss.

    Attributes:
        importance_sampling_cap: truncation of old/behavior; None leaves the correction out.
    """

    epsilon: float
    epsilon_high: float
    beta: float = 0.0
    importance_sampling_cap: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the loss is made of, per loss token (N,); only ``loss_N`` carries a gradient."""

    loss_N: Tensor
    kl_N: Tensor | None
    correction_N: Tensor
    clipped_low_N: Tensor
    clipped_high_N: Tensor


def grpo_terms(
    policy_logprobs: Tensor,
    old_logprobs: Tensor,
    behavior_logprobs: Tensor,
    ref_logprobs: Tensor | None,
    advantages: Tensor,
    objective: Objective,
) -> Terms:
    """Per-token terms of ``-min(ratio A, clip(ratio) A) * correction + beta * KL``.

    ``ratio = policy/old`` clipped to ``[1 - epsilon, 1 + epsilon_high]`` (PPO, arXiv 1707.06347; the two-sided
    epsilon is DAPO's clip-higher, arXiv 2503.14476). ``correction = min(old/behavior, cap)`` is truncated
    importance sampling for the difference between engine and learner (arXiv 2505.24298 and the note "Your
    efficient RL framework secretly brings you off-policy RL training"); it carries no gradient.
    """
    ratio = torch.exp(policy_logprobs - old_logprobs)
    clipped = torch.clamp(ratio, 1 - objective.epsilon, 1 + objective.epsilon_high)
    correction = importance_correction(old_logprobs, behavior_logprobs, objective.importance_sampling_cap)
    loss = -torch.minimum(ratio * advantages, clipped * advantages) * correction
    kl = None
    if ref_logprobs is not None:
        kl = k3(policy_logprobs, ref_logprobs)
        loss = loss + objective.beta * kl
    return Terms(
        loss_N=loss,
        kl_N=None if kl is None else kl.detach(),
        correction_N=correction,
        clipped_low_N=(ratio.detach() < 1 - objective.epsilon) & (advantages < 0),
        clipped_high_N=(ratio.detach() > 1 + objective.epsilon_high) & (advantages > 0),
    )


def importance_correction(old_logprobs: Tensor, behavior_logprobs: Tensor, cap: float | None) -> Tensor:
    """``min(old/behavior, cap)`` per token, without gradient; ones where ``cap`` is None."""
    if cap is None:
        return torch.ones_like(old_logprobs)
    return torch.exp(old_logprobs - behavior_logprobs).clamp(max=cap).detach()


def k3(policy_logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || ref) per token: ``exp(d) - 1 - d`` with ``d = ref - policy``.

    It is what R1-Zero's coefficient of 0.001 multiplies. Source: "Approximating KL divergence" (2020).
    """
    difference = ref_logprobs - policy_logprobs
    return torch.exp(difference) - 1 - difference
