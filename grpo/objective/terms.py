"""The objective, token by token and pure: policy term x correction + KL - entropy. The caller's weights add it up."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo.objective.corrections import correction_of
from grpo.objective.kl import kl_term
from grpo.objective.policy_losses import POLICY_LOSSES
from grpo.objective.tokens import Tokens
from grpo.recipe import Algorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the loss is made of, per loss token (N,); only ``loss_N`` carries a gradient."""

    loss_N: "Tensor"
    kl_N: "Tensor | None"
    correction_N: "Tensor"
    clipped_low_N: "Tensor"
    clipped_high_N: "Tensor"


def objective_terms(tokens: Tokens, algorithm: Algorithm) -> Terms:
    """``policy term * correction [* learned] + beta KL - entropy_coef entropy``, for each token.

    Neither the correction nor ``learned_N`` touches the KL, which is left out where it is in the reward.
    """
    policy = POLICY_LOSSES[algorithm.policy_loss](tokens, algorithm)
    correction = correction_of(tokens, algorithm)
    weight = correction if tokens.learned_N is None else correction * tokens.learned_N
    loss = policy.loss_N * weight
    kl = None
    if tokens.ref_logprobs_N is not None and algorithm.kl_in == "loss":
        kl = kl_term(tokens, algorithm)
        loss = loss + algorithm.beta * kl
    if algorithm.entropy_coef:
        loss = loss - algorithm.entropy_coef * tokens.entropies_N
    return Terms(
        loss_N=loss,
        kl_N=None if kl is None else kl.detach(),
        correction_N=correction,
        clipped_low_N=policy.clipped_low_N,
        clipped_high_N=policy.clipped_high_N,
    )
