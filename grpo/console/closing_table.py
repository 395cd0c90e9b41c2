"""The table that ends a run: held-out results before and after."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from rich.table import Table


class Evaluated(Protocol):
    """What the closing table needs of an evaluation on held-out problems."""

    @property
    def values(self) -> Mapping[str, float]: ...

    @property
    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """95% intervals, by the same names."""
        ...

    @property
    def num_problems(self) -> int: ...

    @property
    def num_samples(self) -> int: ...


# Label, name in ``values``, decimals. Of pass@N and maj@N, the largest N is shown.
_ROWS = (
    ("pass@1", re.compile(r"pass@1"), 3),
    ("pass@{n}", re.compile(r"pass@(\d+)"), 3),
    ("maj@{n}", re.compile(r"maj@(\d+)"), 3),
    ("mean answer length", re.compile(r"mean_length"), 1),
    ("share that reasons", re.compile(r"reasons"), 3),
    ("accuracy given reasoning", re.compile(r"accuracy_given_reasoning"), 3),
    ("share that uses the tool", re.compile(r"uses_tool"), 3),
)


def results_table(before: Evaluated | None, after: Evaluated) -> Table:
    """Held-out results with 95% intervals, one row per measure."""
    columns = [("before", before), ("after", after)] if before is not None else [("held out", after)]
    table = Table(title=_title([evaluation for _, evaluation in columns if evaluation]), title_justify="left")
    table.add_column("held-out problems")
    for header, _ in columns:
        table.add_column(header, justify="right", no_wrap=True)
    for label, name, decimals in _rows(after.values):
        table.add_row(label, *(_cell(evaluation, name, decimals) for _, evaluation in columns if evaluation))
    return table


def _title(evaluations: Sequence[Evaluated]) -> str:
    sizes = list(dict.fromkeys(f"{e.num_problems} problems x {e.num_samples} answers" for e in evaluations))
    return f"{', then '.join(sizes)}; 95% intervals"


def _rows(names: Iterable[str]) -> list[tuple[str, str, int]]:
    """Label, name and decimals of each row."""
    rows: dict[str, tuple[str, str, int]] = {}
    for label, pattern, decimals in _ROWS:
        found = [(int(match[1]) if pattern.groups else 0, match[0]) for match in map(pattern.fullmatch, names) if match]
        if found:
            n, name = max(found)
            rows.setdefault(name, (label.format(n=n), name, decimals))  # pass@1 is its own pass@N when N is 1
    return list(rows.values())


def _cell(evaluation: Evaluated, name: str, decimals: int) -> str:
    if name not in evaluation.values or not math.isfinite(evaluation.values[name]):
        return "-"
    text = f"{evaluation.values[name]:.{decimals}f}"
    if name in evaluation.intervals:
        low, high = evaluation.intervals[name]
        text += f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return text
