"""The policy term of the objective, one function for each way to have it; ``POLICY_LOSSES`` has them by name.

Each gives a loss per token, and which tokens its bounds let go (for CISPO: hold back). Their docstrings are the
documentation: ``grpo check`` and ``docs/maths.md`` print the formula and the source from here. In formulas,
r = policy/old, A is the answer's advantage, sg[] carries no gradient, clip(r) is r within [1 - epsilon,
1 + epsilon_high], and mean_i is the mean over the loss tokens of one answer.

Only methods of tensors are used, so that formulas can be printed without torch.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from grpo.objective.tokens import Tokens
from grpo.recipe import Algorithm

if TYPE_CHECKING:
    from torch import Tensor


class PolicyLoss(NamedTuple):
    """Per loss token, (N,); the two masks say where a bound below or above one has its effect."""

    loss_N: "Tensor"
    clipped_low_N: "Tensor"
    clipped_high_N: "Tensor"


def clip(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """PPO's clipped ratio, token by token, with DAPO's upper bound of its own.

    Formula: -min(r A, clip(r) A)
    Source: PPO, arXiv 1707.06347, eq. 7; DAPO, arXiv 2503.14476, eq. 8

    With ``delta`` min(r, delta) stands for the unclipped r, which bounds what one token of a bad answer can push: dual
    clip, arXiv 1912.09729, eq. 8.
    """
    return _clipped(tokens.log_ratio_N.exp(), tokens.advantages_N, algorithm)


def gspo(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """Group sequence policy optimization: one ratio for an answer, the geometric mean of its tokens'.

    Formula: -min(s A, clip(s) A), s = exp(mean_i log r), for every token of the answer
    Source: arXiv 2507.18071, eq. 5 and 7
    """
    return _clipped(tokens.answers.mean(tokens.log_ratio_N).exp(), tokens.advantages_N, algorithm)


def gspo_token(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """GSPO with a gradient for each token on its own: GSPO's, while one advantage and one correction are an answer's.

    Formula: -min(s A, clip(s) A), s = sg[exp(mean_i log r)] policy / sg[policy]
    Source: arXiv 2507.18071, eq. 13 and 14
    """
    of_answer = tokens.answers.mean(tokens.log_ratio_N.detach()).exp()
    one = (tokens.policy_logprobs_N - tokens.policy_logprobs_N.detach()).exp()  # which has a gradient
    return _clipped(of_answer * one, tokens.advantages_N, algorithm)


def cispo(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """Clipped importance weights on REINFORCE: no token loses its gradient.

    Formula: -sg[clip(r)] A log policy
    Source: MiniMax-M1, arXiv 2506.13585, eq. 4 and 5 (which clip above alone: epsilon = 1)
    """
    ratio = tokens.log_ratio_N.detach().exp()
    low, high = algorithm.clip_range
    loss = -ratio.clamp(low, high) * tokens.advantages_N * tokens.policy_logprobs_N
    return PolicyLoss(loss, ratio < low, ratio > high)


def sapo(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """Soft adaptive policy optimization: a gate that closes smoothly as the ratio leaves one.

    Formula: -(4 / tau) sigmoid(tau (r - 1)) A, tau = sapo_temperature_pos where A > 0, else sapo_temperature_neg
    Source: arXiv 2511.20347, eq. 5 and 6
    """
    ratio, advantages = tokens.log_ratio_N.exp(), tokens.advantages_N
    positive = (advantages > 0).to(ratio.dtype)
    tau = positive * algorithm.sapo_temperature_pos + (1 - positive) * algorithm.sapo_temperature_neg
    loss = -(4 / tau) * (tau * (ratio - 1)).sigmoid() * advantages
    return PolicyLoss(loss, _never(ratio), _never(ratio))


def gmpo(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """Geometric-mean policy optimization: an answer's tokens, each clipped in log space, multiplied.

    Formula: -exp(mean_i m) A for every token of the answer,
        m = the lesser push of log r and log r within [-epsilon, epsilon_high]
    Source: arXiv 2507.20673, eq. 4 and its clipping to (exp(-epsilon), exp(epsilon_high))
    """
    log_ratio, advantages = tokens.log_ratio_N, tokens.advantages_N
    low, high = algorithm.clip_range
    clipped_low = (log_ratio < low - 1) & (advantages < 0)
    clipped_high = (log_ratio > high - 1) & (advantages > 0)
    pushed = log_ratio.masked_fill(clipped_low, low - 1).masked_fill(clipped_high, high - 1)
    return PolicyLoss(-tokens.answers.mean(pushed).exp() * advantages, clipped_low.detach(), clipped_high.detach())


def reinforce(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """The plain policy gradient; the correction takes policy/behavior, and so covers every policy in between.

    Formula: -A log policy
    Source: Williams 1992; with truncated weights, arXiv 2505.24298, eq. 5
    """
    loss = -tokens.advantages_N * tokens.policy_logprobs_N
    return PolicyLoss(loss, _never(loss), _never(loss))


def dppo(tokens: Tokens, algorithm: Algorithm) -> PolicyLoss:
    """Divergence PPO: a token is let go where its probability, not its ratio, has moved too far.

    Formula: -Z r A, Z = 0 where |policy - old| > dppo_threshold and A (r - 1) > 0, else 1
    Source: arXiv 2602.04879, the binary total variation mask
    """
    log_ratio, advantages = tokens.log_ratio_N, tokens.advantages_N
    moved = (tokens.policy_logprobs_N.detach().exp() - tokens.old_logprobs_N.exp()).abs() > algorithm.dppo_threshold
    clipped_low = moved & (log_ratio < 0) & (advantages < 0)
    clipped_high = moved & (log_ratio > 0) & (advantages > 0)
    loss = (-log_ratio.exp() * advantages).masked_fill(clipped_low | clipped_high, 0.0)
    return PolicyLoss(loss, clipped_low, clipped_high)


POLICY_LOSSES: dict[str, Callable[[Tokens, Algorithm], PolicyLoss]] = {
    "clip": clip,
    "gspo": gspo,
    "gspo_token": gspo_token,
    "cispo": cispo,
    "sapo": sapo,
    "gmpo": gmpo,
    "reinforce": reinforce,
    "dppo": dppo,
}


def _clipped(ratio: "Tensor", advantages: "Tensor", algorithm: Algorithm) -> PolicyLoss:
    low, high = algorithm.clip_range
    bounded = ratio if algorithm.delta is None else ratio.clamp(max=algorithm.delta)
    loss = -(bounded * advantages).minimum(ratio.clamp(low, high) * advantages)
    seen = ratio.detach()
    clipped_high = (seen > high) & (advantages > 0)
    if algorithm.delta is not None:
        clipped_high |= (seen > algorithm.delta) & (advantages < 0)
    return PolicyLoss(loss, (seen < low) & (advantages < 0), clipped_high)


def _never(like_N: "Tensor") -> "Tensor":
    return (like_N > 0) & (like_N < 0)
