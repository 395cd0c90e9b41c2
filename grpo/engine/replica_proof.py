"""What a replica must show before it takes part: the bytes that were written, in every parameter, at that version.

One that starts again while answers are being sampled shows one thing more. No publish is due, so nobody will score a
probe on it; it scores the text that the proof of this version was last scored on, and must agree with that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grpo.errors import PublishError
from grpo.score_difference import FP32_TOLERANCE, score_difference
from grpo.weights import Receipt

ROUNDED_TOLERANCE = 0.05  # nats, the mean between two engines of one kind that do not compute in fp32
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A text, and what a replica of this version scored it."""

    token_ids: tuple[int, ...]  # (L,)
    scores: FloatArray  # (L-1,), nats


def check_receipt(name: str, receipt: Receipt, written: Mapping[str, str], *, version: int, version_held: int) -> None:
    """Raises PublishError where replica ``name`` did not receive, or did not place, what was written as ``version``.

    Args:
        written: the hash of each tensor, by name.
        version_held: what the replica held before.
    """
    if found := receipt.difference(written):
        tensor, came = found
        message = f"{name} received other bytes (hash {came or 'none'}) than were written ({written[tensor]})"
        raise PublishError(message, tensor=tensor, version_sent=version, version_held=version_held)
    if receipt.missed:
        message = f"{len(receipt.missed)} of the parameters of {name} were reached by no tensor"
        raise PublishError(message, tensor=receipt.missed[0], version_sent=version, version_held=version_held)
    if receipt.version != version:
        message = f"{name} holds another version"
        raise PublishError(message, tensor=next(iter(written)), version_sent=version, version_held=receipt.version)


def check_scores(name: str, scores: FloatArray, probe: Probe, *, exact: bool, version: int, suspect: str) -> None:
    """Raises PublishError where replica ``name`` computes otherwise than one that was proven at ``version``.

    Args:
        exact: both compute in fp32: every token counts. Otherwise the mean does.
        suspect: the tensor to name.
    """
    worst = score_difference(probe.scores, scores, exact=exact)
    tolerance = FP32_TOLERANCE if exact else ROUNDED_TOLERANCE
    if not worst <= tolerance:  # a NaN fails, too
        message = (
            f"{name} has started again with the right bytes, yet scores a text {worst:.3g} nats apart from what was "
            f"proven of this version (allowed {tolerance:.3g})"
        )
        raise PublishError(message, tensor=suspect, version_sent=version, version_held=version)
