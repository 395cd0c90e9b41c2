"""What makes up for an engine that does not sample from the learner's policy: weights of the policy term, by name.

Engine and learner compute the same weights in other kernels and formats, and the engine's may be older. In formulas,
rho = old/behavior of a token (for REINFORCE, policy/behavior), product_i is over the loss tokens of one answer. No
correction carries a gradient.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from grpo.objective.tokens import Answers, Tokens
from grpo.recipe import Algorithm

if TYPE_CHECKING:
    from torch import Tensor


def token_truncate(log_rho_N: "Tensor", answers: Answers, algorithm: Algorithm) -> "Tensor":
    """Truncated importance sampling, token by token.

    Formula: min(rho, importance_sampling_cap)
    Source: arXiv 2505.24298, eq. 5; "Your efficient RL framework secretly brings you off-policy RL training" (2025)
    """
    return log_rho_N.exp().clamp(max=algorithm.importance_sampling_cap)


def token_mask(log_rho_N: "Tensor", answers: Answers, algorithm: Algorithm) -> "Tensor":
    """IcePop: tokens on which the two disagree too much do not count.

    Formula: rho where importance_sampling_min <= rho <= importance_sampling_cap, else 0
    Source: IcePop, "Small leak can sink a great ship" (2025), and Ring-1T, arXiv 2510.18855
    """
    return _within(log_rho_N.exp(), algorithm)


def sequence_truncate(log_rho_N: "Tensor", answers: Answers, algorithm: Algorithm) -> "Tensor":
    """Truncated importance sampling of whole answers.

    Formula: min(product_i rho, importance_sampling_cap)
    Source: "When speed kills stability" (2025), sequence-level truncated importance sampling
    """
    return answers.sum(log_rho_N).exp().clamp(max=algorithm.importance_sampling_cap)


def sequence_mask(log_rho_N: "Tensor", answers: Answers, algorithm: Algorithm) -> "Tensor":
    """Sequence-level rejection: answers that the learner would hardly have given do not count.

    Formula: product_i rho where importance_sampling_min <= product_i rho <= importance_sampling_cap, else 0
    Source: "When speed kills stability" (2025), sequence-level masked importance sampling
    """
    return _within(answers.sum(log_rho_N).exp(), algorithm)


CORRECTIONS: dict[str, Callable[["Tensor", Answers, Algorithm], "Tensor"]] = {
    "token_truncate": token_truncate,
    "token_mask": token_mask,
    "sequence_truncate": sequence_truncate,
    "sequence_mask": sequence_mask,
}


def correction_of(tokens: Tokens, algorithm: Algorithm) -> "Tensor":
    """The weight of each token's policy term, (N,); ones where nothing is corrected."""
    old = tokens.policy_logprobs_N if algorithm.policy_loss == "reinforce" else tokens.old_logprobs_N
    log_rho = (old - tokens.behavior_logprobs_N).detach()
    correction = log_rho.new_ones(log_rho.shape)
    if algorithm.corrects:
        correction = CORRECTIONS[algorithm.importance_sampling_mode](log_rho, tokens.answers, algorithm)
    if algorithm.off_policy_mask_threshold is not None:
        correction = correction.masked_fill(off_policy(tokens, algorithm.off_policy_mask_threshold), 0.0)
    return correction


def off_policy(tokens: Tokens, threshold: float) -> "Tensor":
    """Off-policy sequence masking: which tokens belong to a bad answer that the policy has long left, as booleans.

    Formula: M_i = 0 where A < 0 and mean_i log(behavior / policy) > off_policy_mask_threshold, else 1
    Source: DeepSeek-V3.2, arXiv 2512.02556, eq. 9
    """
    left = tokens.answers.mean(tokens.behavior_logprobs_N - tokens.policy_logprobs_N.detach()) > threshold
    return left & (tokens.advantages_N < 0)


def _within(weights_N: "Tensor", algorithm: Algorithm) -> "Tensor":
    low, high = algorithm.importance_sampling_min, algorithm.importance_sampling_cap
    return weights_N.masked_fill((weights_N < low) | (weights_N > high), 0.0)
