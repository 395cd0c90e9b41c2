"""A row of numbers as a row of characters."""

from collections.abc import Sequence

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def sparkline(values: Sequence[float], *, width: int = 40, blocks: str = BLOCKS) -> str:
    """``values`` from the lowest block to the highest; where they are more than ``width``, means of stretches.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7]), sparkline([1, 1]), sparkline([0, 0, 7, 7], width=2)
    ('▁▂▃▄▅▆▇█', '▁▁', '▁█')
    """
    count = min(width, len(values))
    ends = [len(values) * place // count for place in range(1, count + 1)] if count else []
    starts = [0, *ends[:-1]]
    means = [sum(values[start:end]) / (end - start) for start, end in zip(starts, ends, strict=False)]
    low, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    top = len(blocks) - 1
    return "".join(blocks[round(top * (mean - low) / span) if span else 0] for mean in means)


def blocks_for(encoding: str | None) -> str:
    """The blocks that a stream of this encoding can show."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII_BLOCKS
    return BLOCKS
