"""A bar on the terminal while data is read: only where somebody watches, and only once it has taken a while."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

PATIENCE_S = 1.5  # reading that ends before this shows no bar

T = TypeVar("T")


def with_bar(
    items: Iterable[T],
    text: str,
    *,
    total: int | None = None,
    after_s: float = PATIENCE_S,
    file: TextIO | None = None,
) -> Iterator[T]:
    """The items, with a bar that tells how many have gone through; it leaves no trace when they end.

    Args:
        text: what is done to them, such as ``reading sums.jsonl``.
        total: how many there are, where that is known.
        after_s: seconds before the bar appears.
        file: where it is drawn; standard error when left out. Nothing is drawn unless it is a terminal.
    """
    file = file or sys.stderr
    if not file.isatty():
        yield from items
        return
    from rich.console import Console  # only here: its import is slow
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=file),
        transient=True,
    )
    task, began = bar.add_task(text, total=total), time.monotonic()
    try:
        for count, item in enumerate(items):
            if count and not bar.live.is_started and time.monotonic() - began >= after_s:
                bar.start()
            bar.update(task, completed=count)
            yield item
    finally:
        bar.stop()
