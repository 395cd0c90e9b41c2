"""What a person sees of a run: one progress bar with the metrics that matter, and the closing table.

On a terminal the bar stays on the last line and changes in place, once a second. Elsewhere (a file, a pipe, CI)
plain lines appear instead, one every so many steps.
"""

import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TextIO

import rich.console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

PLAIN_LINES = 20  # about so many lines where there is no terminal
PACE_STEPS = 20  # time left follows from the pace of this many last steps


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
_PASS_AT_1 = re.compile(r"val-core/.+/acc/mean@\d+")


class Console:
    """Progress, messages and the closing table. It is a sink of metrics.

    Args:
        total_steps: steps of the whole run; 0 is no run, hence no bar.
        first_step: steps done before this start (resuming).
        every: without a terminal, steps per line; about 20 lines a run when left out.
        file: where to write; standard output when left out.
    """

    def __init__(
        self, total_steps: int, *, first_step: int = 0, every: int | None = None, file: TextIO | None = None
    ) -> None:
        file = file or sys.stdout
        live = total_steps > 0 and file.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._out = rich.console.Console(
            file=file,
            highlight=False,
            markup=False,
            soft_wrap=not file.isatty(),
            force_jupyter=False,  # a notebook gets plain lines on its standard output, like any other
        )
        self._total, self._every = total_steps, every or max(1, math.ceil(total_steps / PLAIN_LINES))
        self._values: dict[str, float] = {}
        self._pace = _Pace(total_steps)
        self._progress = _make_progress(self._out, self._pace) if live else None
        if self._progress is not None:
            self._task = self._progress.add_task("", total=total_steps, completed=first_step, numbers="")
            self._progress.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show what is new of reward, pass@1, length and step time."""
        evaluated = [value for name, value in values.items() if _PASS_AT_1.fullmatch(name)]
        shown = {name: values[name] for name in ("reward", "completions/mean_length", "step_time") if name in values}
        if evaluated:
            shown["pass@1"] = sum(evaluated) / len(evaluated)
        self._values |= shown
        if "reward" in shown:
            self._pace.record(step)
        if self._progress is not None:
            self._progress.update(self._task, completed=step, numbers=self._numbers(), refresh=True)
        elif evaluated or ("reward" in shown and (step % self._every == 0 or step in (1, self._total))):
            left = self._pace.left() if step < self._total else ""
            self.say("  ".join(filter(None, (f"step {step}/{self._total}", self._numbers(), left))))

    def say(self, text: str) -> None:
        """Print a message above the bar. Text that a model wrote cannot move the cursor or colour the terminal."""
        self._out.print(Text(printable(text, self._out.encoding)))

    def summary(self, before: Evaluated | None, after: Evaluated, run_dir: Path) -> None:
        """End the bar and print the closing table and where the run folder is.

        Args:
            before: the evaluation of the base model; None leaves its column out.
        """
        self.close()
        self._out.print(results_table(before, after))
        self.say(f"run folder: {run_dir}")

    def close(self) -> None:
        """End the bar and give the cursor back; idempotent."""
        if self._progress is not None:
            self._progress.stop()

    def _numbers(self) -> str:
        parts = []
        for label, name, form in (
            ("reward ", "reward", "{:.2f}"),
            ("pass@1 ", "pass@1", "{:.2f}"),
            ("length ", "completions/mean_length", "{:.0f}"),
            ("", "step_time", "{:.3g} s/step"),
        ):
            if name in self._values:
                parts.append(label + form.format(self._values[name]))
        return "  ".join(parts)


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


def printable(text: str, encoding: str) -> str:
    """Text that cannot move the cursor or colour the terminal."""
    shown = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown.encode(encoding, "replace").decode(encoding)


class _Pace:
    """Time left, from the wall clock of the last steps: evaluations and checkpoints count in their share."""

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._points: deque[tuple[int, float]] = deque(maxlen=PACE_STEPS + 1)

    def record(self, step: int) -> None:
        self._points.append((step, time.monotonic()))

    def left(self) -> str:
        """Such as ``3:12 left``, counting down between steps; empty as long as there is no pace."""
        if len(self._points) < 2 or self._points[-1][0] == self._points[0][0]:
            return ""
        (first, began), (last, ended) = self._points[0], self._points[-1]
        remaining = (self._total - last) * (ended - began) / (last - first) - (time.monotonic() - ended)
        minutes, seconds = divmod(max(0, round(remaining)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"


class _TimeLeft(ProgressColumn):
    def __init__(self, pace: _Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        return Text(self._pace.left(), no_wrap=True)


def _make_progress(out: rich.console.Console, pace: _Pace) -> Progress:
    return Progress(
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=None),
        _TimeLeft(pace),
        TextColumn("{task.fields[numbers]}", markup=False),
        console=out,
        expand=True,
        refresh_per_second=1,
    )
