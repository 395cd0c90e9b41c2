"""Rewards -> advantages, pure and without a critic: what an answer is worth against the others of its group or step.

An advantage is ``(reward - baseline) / scale``. Baselines and scales are functions by name; their docstrings are the
documentation, which ``grpo check`` and ``docs/maths.md`` print. Shapes: G scored answers of one group.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Completion, Group, ReadyGroup, Sample
from grpo.recipe import Algorithm

Float64Array = npt.NDArray[np.float64]

STD_EPSILON = 1e-4  # as TRL: keeps a nearly uniform group from dividing by almost nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """The rewards of one group beside those of its step.

    Attributes:
        step: of every group of the step, end to end; a group alone is its own step.
        group_std: the sample standard deviation of ``group``, or what stands for it.
    """

    group: Float64Array
    step: Float64Array
    group_std: float


def group_baseline(rewards: Rewards) -> Float64Array:
    """The group's mean.

    Formula: b = mean_g R
    Source: GRPO, arXiv 2402.03300, section 4.1.2
    """
    return np.full(len(rewards.group), rewards.group.mean())


def leave_one_out_baseline(rewards: Rewards) -> Float64Array:
    """The mean of the group's other answers.

    Formula: b_i = mean of R_j over j in g other than i
    Source: RLOO, arXiv 2402.14740, eq. 5
    """
    if len(rewards.group) == 1:
        return rewards.group  # nothing to tell it from
    baseline: Float64Array = (rewards.group.sum() - rewards.group) / (len(rewards.group) - 1)
    return baseline


def batch_baseline(rewards: Rewards) -> Float64Array:
    """The mean of the step.

    Formula: b = mean of R over the step
    Source: REINFORCE++, arXiv 2501.03262
    """
    return np.full(len(rewards.group), rewards.step.mean())


def group_scale(rewards: Rewards) -> float:
    """The group's sample standard deviation; with pass_at_k, that of the best of k.

    Formula: std_g R + 1e-4
    Source: GRPO, arXiv 2402.03300, section 4.1.2
    """
    return rewards.group_std + STD_EPSILON


def batch_scale(rewards: Rewards) -> float:
    """The step's sample standard deviation.

    Formula: std of R over the step, + 1e-4
    Source: arXiv 2508.08221, section 4.1; REINFORCE++, arXiv 2501.03262
    """
    return _std(rewards.step) + STD_EPSILON


def mean_scale(rewards: Rewards) -> float:
    """The group's mean reward: maximum likelihood RL. A group whose mean is not above zero teaches nothing.

    Formula: mean_g R
    Source: MaxRL, arXiv 2602.02710, eq. 10
    """
    mean = float(rewards.group.mean())
    return mean if mean > 0 else np.inf


def no_scale(rewards: Rewards) -> float:
    """Nothing: dividing would favour problems that are too easy or too hard.

    Formula: 1
    Source: Dr.GRPO, arXiv 2503.20783, section 3.2
    """
    return 1.0


BASELINES: dict[str, Callable[[Rewards], Float64Array]] = {
    "group": group_baseline,
    "leave_one_out": leave_one_out_baseline,
    "batch": batch_baseline,
}
SCALES: dict[str, Callable[[Rewards], float]] = {
    "group": group_scale,
    "batch": batch_scale,
    "mean": mean_scale,
    "none": no_scale,
}


def best_of_k(rewards_G: Float64Array, k: int) -> tuple[Float64Array, float]:
    """Each answer's expected reward if a group were k answers, this one among them, and counted by its best.

    Formula: R_i = E[max of R over a random k-subset of g with i in it]; std_g R is that of such a maximum
    Source: pass@k training, arXiv 2508.10751, eq. 12 to 14 (binary rewards); PKPO, arXiv 2505.15201, section 4

    Returns the rewards, whose mean is the unbiased estimate of reward@k, and the standard deviation of the best of a
    random k of the group. A group of fewer than k counts as one of all its answers.

    >>> best_of_k(np.array([1.0, 0.0, 0.0]), 2)[0].tolist()
    [1.0, 0.5, 0.5]
    """
    size = len(rewards_G)
    k = min(k, size)
    if k == 1:
        return rewards_G, _std(rewards_G)
    order = np.argsort(rewards_G, kind="stable")
    ranked = rewards_G[order]
    # of the other k - 1: all below this one, or the best of them at place m above it
    above = np.array([comb(m - 1, k - 2) for m in range(1, size)], dtype=np.float64) * ranked[1:]
    from_place = np.append(np.cumsum(above[::-1])[::-1], 0.0)
    below = np.array([comb(place, k - 1) for place in range(size)], dtype=np.float64) * ranked
    expected = np.empty(size)
    expected[order] = (below + from_place) / comb(size - 1, k - 1)
    chances = np.array([comb(place, k - 1) for place in range(size)], dtype=np.float64) / comb(size, k)
    mean = float(chances @ ranked)
    return expected, float(np.sqrt(max(0.0, float(chances @ ranked**2) - mean**2)))


def advantages_of_step(groups: Sequence[Float64Array], algorithm: Algorithm) -> list[Float64Array]:
    """The advantages of each group's answers, from the rewards of all groups that one step learns from.

    >>> advantages_of_step([np.array([1.0, 0.0, 0.0, 1.0])], Algorithm(scale_rewards="none"))[0].tolist()
    [0.5, -0.5, -0.5, 0.5]
    """
    if not groups:
        return []
    valued = [best_of_k(rewards_G, algorithm.pass_at_k) for rewards_G in groups]
    step = np.concatenate([rewards_G for rewards_G, _ in valued])
    every = [Rewards(group=rewards_G, step=step, group_std=std) for rewards_G, std in valued]
    baseline, scale = BASELINES[algorithm.baseline], SCALES[algorithm.scale_rewards]
    return [(rewards.group - baseline(rewards)) / scale(rewards) for rewards in every]


def normalized_then_summed(
    groups: Sequence[Mapping[str, Float64Array]], weights: Mapping[str, float]
) -> list[Float64Array]:
    """Each reward function's scores normalized within the group before they are added up, and the sums within the step.

    Formula: A = (S - mean of S over the step) / (std of S over the step + 1e-4),
        S = sum over functions f of weight_f (R_f - mean_g R_f) / (std_g R_f + 1e-4)
    Source: GDPO, arXiv 2601.05242, eq. 4 to 6

    Otherwise answers of unlike merits would have one advantage, wherever their rewards add up to the same sum.

    Args:
        groups: each group's scores by reward function, of those that apply to its problem.
        weights: of the reward functions.
    """
    if not groups:
        return []
    sums = [
        np.sum([weights[name] * _normalized(scores_G) for name, scores_G in by_name.items()], axis=0)
        for by_name in groups
    ]
    step = np.concatenate(sums)
    return [(sum_G - step.mean()) / (_std(step) + STD_EPSILON) for sum_G in sums]


def with_advantages(groups: Sequence[ReadyGroup], algorithm: Algorithm, weights: Mapping[str, float]) -> list[Sample]:
    """The samples of a step, with their advantages among the step's groups; ``weights``: of the reward functions."""
    if algorithm.multi_objective_aggregation == "normalize_then_sum":
        values = normalized_then_summed([group.scores_G for group in groups], weights)
    else:
        values = advantages_of_step([group.rewards_G for group in groups], algorithm)
    return [
        replace(sample, advantage=float(advantage))
        for group, advantages_G in zip(groups, values, strict=True)
        for sample, advantage in zip(group.samples, advantages_G, strict=True)
    ]


def has_variance(rewards_G: Float64Array) -> bool:
    """Whether the answers differ in what they score: those that all score the same have zero advantage in the group."""
    return len(rewards_G) > 1 and bool(rewards_G.max() > rewards_G.min())


def teaches(group: Group, algorithm: Algorithm, weights: Mapping[str, float]) -> bool:
    """Whether some answer of the group can have an advantage other than zero, by its reward."""
    if algorithm.baseline == "batch":
        return True  # against answers to other problems
    if algorithm.multi_objective_aggregation == "normalize_then_sum":
        return any(has_variance(scores_G) for name, scores_G in _scores_by_function(group).items() if weights[name])
    return has_variance(best_of_k(group.rewards_G, algorithm.pass_at_k)[0])


def ready_group(group: Group, samples: Sequence[Sample], penalties_G: Float64Array) -> ReadyGroup:
    """A group as the learner takes it; ``penalties_G`` (KL, say) are taken off its rewards."""
    return ReadyGroup(
        group_id=group.group_id,
        ordinal=group.prompt.ordinal,
        samples=tuple(samples),
        rewards_G=group.rewards_G - penalties_G,
        scores_G=_scores_by_function(group),
    )


def _scores_by_function(group: Group) -> dict[str, Float64Array]:
    """The scores of the scored answers, by reward function, of those that apply to the problem."""
    scores = {name: [member.verdicts[name].score for member in group.scored] for name in group.members[0].verdicts}
    return {
        name: np.array(values, dtype=np.float64)
        for name, values in scores.items()
        if all(v is not None for v in values)
    }


def to_samples(group: Group, *, mask_truncated: bool) -> tuple[Sample, ...]:
    """One sample per scored answer, without its advantage; the loss mask follows from who wrote each token.

    An answer that could not be scored leaves the group: it shapes neither the mean nor the loss.
    """
    return tuple(_to_sample(member.completion, mask_truncated) for member in group.scored)


def _to_sample(completion: Completion, mask_truncated: bool) -> Sample:
    prompt_ids = np.array(completion.prompt.token_ids, dtype=np.int64)
    truncated = completion.finish_reason == "length"
    loss_mask = completion.loss_mask & (not (truncated and mask_truncated))
    return Sample(
        group_id=completion.prompt.group_id,
        sample_index=completion.sample_index,
        prompt_length=len(prompt_ids),
        token_ids_L=np.concatenate([prompt_ids, completion.token_ids]),
        loss_mask_L=np.concatenate([np.zeros(len(prompt_ids), bool), loss_mask]),
        behavior_logprobs_L=np.concatenate([np.zeros(len(prompt_ids), np.float32), completion.behavior_logprobs]),
        old_logprobs_L=None,
        version=completion.version,
        truncated=truncated,
    )


def _std(values: Float64Array) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _normalized(values_G: Float64Array) -> Float64Array:
    normalized: Float64Array = (values_G - values_G.mean()) / (_std(values_G) + STD_EPSILON)
    return normalized
