"""Estimates of KL(policy || reference) from one sampled token, by name, and what the gradient of each estimates.

All three have values near the KL; their gradients are another matter (arXiv 2506.09477, arXiv 2512.21852). In a loss
none sees what a token does to the tokens after it; in a reward all do, divided by ``scale_rewards`` as rewards are. In
formulas, d = log policy - log reference.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from grpo.objective.tokens import Tokens
from grpo.recipe import Algorithm

if TYPE_CHECKING:
    from torch import Tensor


def k1(policy_logprobs: "Tensor", ref_logprobs: "Tensor") -> "Tensor":
    """Unbiased, of any sign.

    Formula: d
    Source: Schulman, "Approximating KL divergence" (2020)
    """
    return policy_logprobs - ref_logprobs


def k2(policy_logprobs: "Tensor", ref_logprobs: "Tensor") -> "Tensor":
    """Biased, never negative.

    Formula: d^2 / 2
    Source: Schulman, "Approximating KL divergence" (2020)
    """
    return (policy_logprobs - ref_logprobs).square() / 2


def k3(policy_logprobs: "Tensor", ref_logprobs: "Tensor") -> "Tensor":
    """Unbiased, never negative; what R1-Zero's coefficient of 0.001 multiplies.

    Formula: exp(-d) - 1 + d
    Source: Schulman, "Approximating KL divergence" (2020); GRPO, arXiv 2402.03300, eq. 4
    """
    difference = ref_logprobs - policy_logprobs
    return difference.exp() - 1 - difference


KL_ESTIMATORS: dict[str, Callable[["Tensor", "Tensor"], "Tensor"]] = {"k1": k1, "k2": k2, "k3": k3}

UNBIASED = "the gradient of KL(policy || reference) of each token, given those before it"
GRADIENTS = {
    ("loss", "k1"): "zero on average: E[grad log policy] = 0",
    ("loss", "k2"): UNBIASED,
    ("loss", "k3"): "the gradient of KL(reference || policy) of each token, the other direction",
    ("reward", "k1"): "the gradient of KL(policy || reference) of whole answers",
    ("reward", "k2"): "E[d^2/2 grad log policy], biased: where d < 0 it pulls away from the reference",
    ("reward", "k3"): "the gradient of KL(policy || reference) - KL(reference || policy), biased",
}


def gradient_of(algorithm: Algorithm) -> str:
    """What the gradient of the KL term estimates, while answers come from the policy itself."""
    if algorithm.kl_in == "loss" and algorithm.kl_importance_correction:
        return UNBIASED if algorithm.kl_estimator != "k2" else "the gradient of E[d^2/2]"
    return GRADIENTS[algorithm.kl_in, algorithm.kl_estimator]


def kl_term(tokens: Tokens, algorithm: Algorithm) -> "Tensor":
    """The estimate for each token, (N,), importance-corrected where asked.

    With ``kl_importance_correction`` it is times r = policy/old, with r's gradient, as DeepSeek-V3.2 has it
    (arXiv 2512.02556, eq. 7): the gradient is then that of the KL for k1 and k3, off-policy too.
    """
    assert tokens.ref_logprobs_N is not None, "a KL needs a reference"
    estimate = KL_ESTIMATORS[algorithm.kl_estimator](tokens.policy_logprobs_N, tokens.ref_logprobs_N)
    return estimate * tokens.log_ratio_N.exp() if algorithm.kl_importance_correction else estimate
