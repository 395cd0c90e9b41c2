"""Samples -> Batch: rows without padding, and the weight of every token.

The aggregation of a loss is decided here, once, from the counts of the whole batch. After that a loss is a sum of
weight x term, and no split into rows, micro-batches or ranks can change it: the sum has no local denominator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Batch, Row, Sample


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one update: loss tokens of each answer; those without any count as answers."""

    lengths: tuple[int, ...]
    max_completion_length: int


def per_token(counts: Counts) -> list[float]:
    """Every token of the update alike, so that long answers weigh as much as they are long.

    Formula: w = 1 / (loss tokens in the update)
    Source: DAPO, arXiv 2503.14476, eq. 8
    """
    return [1 / max(1, sum(counts.lengths))] * len(counts.lengths)


def per_answer(counts: Counts) -> list[float]:
    """Every answer alike, whatever its length.

    Formula: w = 1 / (answers in the update x loss tokens of this answer)
    Source: GRPO, arXiv 2402.03300, eq. 3
    """
    return [1 / (len(counts.lengths) * max(1, length)) for length in counts.lengths]


def constant(counts: Counts) -> list[float]:
    """A constant, so that no length divides anything.

    Formula: w = 1 / (answers in the update x max_completion_length)
    Source: Dr.GRPO, arXiv 2503.20783, listing 1
    """
    return [1 / (len(counts.lengths) * counts.max_completion_length)] * len(counts.lengths)


AGGREGATIONS: dict[str, Callable[[Counts], list[float]]] = {"dapo": per_token, "grpo": per_answer, "dr_grpo": constant}


def token_weights(
    samples: Sequence[Sample], loss_type: str, *, max_completion_length: int
) -> list[npt.NDArray[np.float64]]:
    """``weights_L`` for each sample, zero where the loss does not count a token; ``loss_type``: of ``AGGREGATIONS``."""
    lengths = tuple(int(sample.loss_mask_L.sum()) for sample in samples)
    weights = AGGREGATIONS[loss_type](Counts(lengths, max_completion_length))
    return [weight * sample.loss_mask_L.astype(np.float64) for weight, sample in zip(weights, samples, strict=True)]


def pack(samples: Sequence[Sample], loss_type: str, *, max_completion_length: int, row_tokens: int) -> Batch:
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
