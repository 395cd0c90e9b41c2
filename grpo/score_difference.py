"""How far two sides' log-probabilities of one text lie apart: what every proof of weights is measured by. Pure."""

import numpy as np
import numpy.typing as npt

FP32_TOLERANCE = 1e-4  # nats, where both sides compute in fp32


def score_difference(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32], *, exact: bool) -> float:
    """In nats, of tokens 1..L-1, shapes (L-1,); NaN where a score is.

    Args:
        exact: both compute in fp32: the largest counts, by its own size where that is more than one nat, with which
            rounding grows. Otherwise the mean counts.

    >>> score_difference(np.float32([-1, -4]), np.float32([-1.5, -5]), exact=True)
    0.5
    """
    differences = np.abs(ours - theirs)
    return float((differences / np.maximum(1.0, np.abs(ours))).max() if exact else differences.mean())
