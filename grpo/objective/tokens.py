"""What the objective sees: log-probabilities of loss tokens under four policies, and the answers they belong to.

Three policies act, three names: ``behavior`` (the engine, while sampling), ``old`` (the learner, at the version that
sampled), ``policy`` (the learner, now); ``ref`` is the one that the KL term holds on to.

Shapes: N loss tokens (the packed tokens T that the policy wrote), A answers among them. Log-probabilities in nats.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0


def _as_it_is(values: "Tensor") -> "Tensor":
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Which answer each token belongs to.

    Attributes:
        index_N: of the answer.
        lengths_A: loss tokens of each answer, wherever they are computed.
        share: sums over the processes that each have some of the tokens (context parallel); carries no gradient.
    """

    index_N: "Tensor"
    lengths_A: "Tensor"
    share: "Callable[[Tensor], Tensor]" = _as_it_is

    def sum(self, values_N: "Tensor") -> "Tensor":
        """For each token the sum over its answer, (N,)."""
        sums_A = values_N.new_zeros(len(self.lengths_A)).index_add(0, self.index_N, values_N)
        return self.share(sums_A)[self.index_N]

    def mean(self, values_N: "Tensor") -> "Tensor":
        """For each token the mean over its answer, (N,)."""
        return self.sum(values_N) / self.lengths_A[self.index_N]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Loss tokens; ``policy_logprobs_N`` carries a gradient, and ``entropies_N`` where there is a bonus for it.

    Attributes:
        advantages_N: each token's answer's.
        learned_N: where the policy term counts, as booleans; None is everywhere.
    """

    policy_logprobs_N: "Tensor"
    old_logprobs_N: "Tensor"
    behavior_logprobs_N: "Tensor"
    ref_logprobs_N: "Tensor | None"
    advantages_N: "Tensor"
    entropies_N: "Tensor"
    answers: Answers
    learned_N: "Tensor | None" = None

    @property
    def log_ratio_N(self) -> "Tensor":
        """log policy/old; beyond 20 nats, where a ratio says no more, it ends, so that no product overflows."""
        return (self.policy_logprobs_N - self.old_logprobs_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
