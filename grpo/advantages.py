"""Group-relative advantages, pure. Shapes: G answers of one group."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Completion, Group, Sample

STD_EPSILON = 1e-4  # as TRL: keeps a nearly uniform group from dividing by almost nothing

ScaleRewards = Literal["group", "none"]


def group_advantages(
    rewards_G: npt.NDArray[np.float64],
    scale_rewards: ScaleRewards,
) -> npt.NDArray[np.float64]:
    """Each reward against its group's mean; ``"group"`` divides by the group's standard deviation too.

    ``"group"`` is GRPO (DeepSeekMath, arXiv 2402.03300, section 4.1.2), with the sample standard deviation;
    ``"none"`` is Dr.GRPO (arXiv 2503.20783), which drops the division because it favours too easy and too hard
    problems.

    >>> group_advantages(np.array([1.0, 0.0, 0.0, 1.0]), "none").tolist()
    [0.5, -0.5, -0.5, 0.5]
    """
    centered: npt.NDArray[np.float64] = rewards_G - rewards_G.mean()
    if scale_rewards == "none":
        return centered
    scaled: npt.NDArray[np.float64] = centered / (rewards_G.std(ddof=1) + STD_EPSILON)
    return scaled


def has_variance(rewards_G: npt.NDArray[np.float64]) -> bool:
    """Whether the group teaches anything: answers that all score the same have zero advantage."""
    return len(rewards_G) > 1 and bool(rewards_G.max() > rewards_G.min())


def to_samples(group: Group, *, scale_rewards: ScaleRewards, mask_truncated: bool) -> tuple[Sample, ...]:
    """One sample per scored answer, with its advantage; the loss mask follows from who wrote each token.

    An answer that could not be scored leaves the group: it shapes neither the mean nor the loss.
    """
    advantages_G = group_advantages(group.rewards_G, scale_rewards)
    return tuple(
        _to_sample(member.completion, float(advantage), mask_truncated)
        for member, advantage in zip(group.scored, advantages_G, strict=True)
    )


def _to_sample(completion: Completion, advantage: float, mask_truncated: bool) -> Sample:
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
        advantage=advantage,
        version=completion.version,
        truncated=truncated,
    )
