"""A row of numbers as a row of characters."""

import itertools
import math
from collections.abc import Sequence

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def sparkline(values: Sequence[float], *, width: int = 40, blocks: str = BLOCKS) -> str:
    """``values`` from the lowest block to the highest; where they are more than ``width``, means of stretches.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7]), sparkline([1, 1]), sparkline([0, 0, 7, 7], width=2)
    ('▁▂▃▄▅▆▇█', '▄▄', '▁█')
    """
    count = min(width, len(values))
    if count < 1:
        return ""
    edges = [len(values) * place // count for place in range(count + 1)]
    means = [math.fsum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
    low, span, top = min(means), max(means) - min(means), len(blocks) - 1
    if not span:
        return blocks[top // 2] * count
    return "".join(blocks[round(top * (mean - low) / span)] for mean in means)


def blocks_for(encoding: str | None) -> str:
    """The blocks that a stream of this encoding can show."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII_BLOCKS
    return BLOCKS
