"""Samples -> Batch: rows without padding, and the weight of every token.

The aggregation of a loss is decided here, once, from the counts of the whole batch. After that a loss is a sum of
weight x term, and no split into rows, micro-batches or ranks can change it: the sum has no local denominator.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Batch, Row, Sample

LossType = Literal["grpo", "dapo", "dr_grpo"]


def token_weights(
    samples: Sequence[Sample], loss_type: LossType, *, max_completion_length: int
) -> list[npt.NDArray[np.float64]]:
    """``weights_L`` for each sample, zero where the loss does not count a token.

    - ``dapo``: every token of the batch alike, 1 / (loss tokens in the batch) (arXiv 2503.14476, eq. 8).
    - ``grpo``: every answer alike, 1 / (answers x its own loss tokens) (arXiv 2402.03300, eq. 3).
    - ``dr_grpo``: the constant 1 / (answers x max_completion_length) (arXiv 2503.20783).

    Answers without a loss token (masked ones) still count as answers in the last two.
    """
    masks = [sample.loss_mask_L.astype(np.float64) for sample in samples]
    if loss_type == "dapo":
        total = max(1.0, sum(float(mask.sum()) for mask in masks))
        return [mask / total for mask in masks]
    if loss_type == "grpo":
        return [mask / (len(samples) * max(1.0, mask.sum())) for mask in masks]
    return [mask / (len(samples) * max_completion_length) for mask in masks]


def pack(samples: Sequence[Sample], loss_type: LossType, *, max_completion_length: int, row_tokens: int) -> Batch:
    """Lay samples end to end in rows of at most ``row_tokens`` tokens; a longer sample has a row of its own.

    Rows are filled longest sample first (first fit decreasing); the result depends on nothing but the arguments.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    weights = token_weights(samples, loss_type, max_completion_length=max_completion_length)
    lengths = [len(sample.token_ids_L) for sample in samples]
    rows = tuple(
        _row(members, [samples[i] for i in members], [weights[i] for i in members])
        for members in first_fit_decreasing(lengths, row_tokens)
    )
    return Batch(rows=rows)


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of ``lengths`` in bins of at most ``capacity`` (Johnson 1973: at most 11/9 of the best, plus one).

    >>> first_fit_decreasing([3, 5, 2, 4], 7)
    [[1, 2], [3, 0]]
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = next((b for b, left in enumerate(room) if left >= lengths[index]), None)
        if at is None:
            bins.append([])
            room.append(capacity)
            at = len(bins) - 1
        bins[at].append(index)
        room[at] -= lengths[index]
    return bins


def _row(members: Sequence[int], samples: Sequence[Sample], weights: Sequence[npt.NDArray[np.float64]]) -> Row:
    lengths = [len(sample.token_ids_L) for sample in samples]
    old = [sample.old_logprobs_L for sample in samples]
    present = [logprobs for logprobs in old if logprobs is not None]
    assert len(present) in (0, len(old)), "old log-probabilities are given for all samples of a batch or for none"
    return Row(
        members=tuple(members),
        boundaries=tuple(int(offset) for offset in np.cumsum([0, *lengths])),
        token_ids_T=np.concatenate([sample.token_ids_L for sample in samples]),
        position_ids_T=np.concatenate([np.arange(length) for length in lengths]),
        loss_mask_T=np.concatenate([sample.loss_mask_L for sample in samples]),
        weights_T=np.concatenate(weights),
        advantages_T=np.repeat([sample.advantage for sample in samples], lengths),
        behavior_logprobs_T=np.concatenate([sample.behavior_logprobs_L for sample in samples]),
        old_logprobs_T=np.concatenate(present) if present else None,
    )
