"""A whole divided by weights."""

import math
from collections.abc import Sequence


def in_proportion(total: int, weights: Sequence[float]) -> list[int]:
    """Parts of ``total`` by weight: whole numbers that sum to it, those with the largest remainders rounded up.

    >>> in_proportion(128, [3.0, 1.0]), in_proportion(10, [1.0, 1.0, 1.0])
    ([96, 32], [4, 3, 3])
    """
    whole = math.fsum(weights)
    exact = [total * weight / whole for weight in weights]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts
