"""The screen of a run. On a terminal a view stays on its last lines and is drawn anew once a second; messages scroll
above it. Elsewhere (a file, a pipe, CI) plain lines appear instead, one every so many steps.

Nothing of it can end a run: a terminal that has gone is not written to any more.
"""

import contextlib
import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

import rich.console
from rich.live import Live
from rich.text import Text

from grpo.console.closing_table import Evaluated, results_table
from grpo.console.marks import marks_for, printable
from grpo.console.pace import PACE_STEPS, Pace
from grpo.console.view import LONGEST_TEXT, PARTS, Answer, Curve, Snapshot, draw, seconds_by_part

IDLE_STEPS = 5  # from the first on, after which it is said that none of them learned
PLAIN_LINES = 20  # about so many lines where there is no terminal
_PASS_AT_1 = re.compile(r"val-core/.+/acc/mean@\d+")
_SHOWN = (
    *("reward", "step_time", "completions/mean_length", "completions/clipped_ratio"),
    *("off_policy/mean", "off_policy/max"),
)


class Console:
    """The live view, messages and the closing table. It is a sink of metrics.

    Args:
        total_steps: steps of the whole run; 0 is no run, hence no view.
        first_step: steps done before this start (resuming).
        every: without a terminal, steps per line; about 20 lines a run when left out.
        quiet: warnings and the closing table alone.
        file: where to write; standard output when left out.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        first_step: int = 0,
        every: int | None = None,
        quiet: bool = False,
        file: TextIO | None = None,
    ) -> None:
        file = file or sys.stdout
        terminal = file.isatty()
        self._out = rich.console.Console(
            file=cast(TextIO, _Lasting(file)),
            highlight=False,
            markup=False,
            soft_wrap=not terminal,
            force_jupyter=False,  # a notebook gets plain lines on its standard output, like any other
        )
        self._quiet = quiet
        self._total, self._every = total_steps, every or max(1, math.ceil(total_steps / PLAIN_LINES))
        self._marks = marks_for(self._out.encoding)
        self._pace = Pace(total_steps)
        self._reward, self._pass_at_1 = Curve(), Curve()
        self._seconds: deque[dict[str, float]] = deque(maxlen=PACE_STEPS)
        self._view = Snapshot(total=total_steps, step=first_step or None)
        self._doing_since = 0.0
        self._idle, self._trained = 0, False  # steps that learned from no group; whether one learned from any
        live = total_steps > 0 and terminal and not quiet and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        self._live = (
            Live(get_renderable=self._draw, console=self._out, refresh_per_second=1, transient=True) if live else None
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show what is new of reward, pass@1, length, staleness and time."""
        evaluated = [value for name, value in values.items() if _PASS_AT_1.fullmatch(name)]
        shown = {name: values[name] for name in _SHOWN if name in values}
        if evaluated:
            shown["pass@1"] = sum(evaluated) / len(evaluated)
            self._pass_at_1.add(shown["pass@1"])
        if "reward" in shown:
            self._pace.record(step)
            self._reward.add(shown["reward"])
        if "groups/trained" in values:
            self._count_idle(values["groups/trained"] > 0)
        if spent := seconds_by_part(values):
            self._seconds.append(spent)
        if self._live is not None:
            self._show(step, shown)
            return
        self._view = replace(self._view, step=step, values={**self._view.values, **shown})
        if evaluated or ("reward" in shown and (step % self._every == 0 or step in (1, self._total))):
            left = self._pace.left() if step < self._total else ""
            self.note(self._plain_line(left))

    def _count_idle(self, trained: bool) -> None:
        """Say once that nothing is learned, while the run can still be spared."""
        self._trained |= trained
        self._idle += not trained
        if not self._trained and self._idle == min(IDLE_STEPS, self._total):
            self.say(
                f"nothing was learned so far ({self._idle} steps): the answers of each group had one reward, or were "
                'left out. See "It does not learn" in docs/troubleshooting.md'
            )

    def transcript(self, record: Mapping[str, Any]) -> None:
        """Show a sampled answer with its verdict: the record as the run folder's ``transcripts`` have it."""
        if self._live is None:
            return
        first_verdict = next(iter(record["verdicts"].values()), {"status": "unscored"})
        answer = Answer(
            question=self._safe(record["question"]),
            text=self._safe(record["completion"]),
            status=first_verdict["status"],
            reward=record["reward"],
            num_tokens=record["num_tokens"],
        )
        self._view = replace(self._view, answer=answer)

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Say what goes on meanwhile, with a spinner on a terminal; in plain lines only before the first step."""
        if self._live is not None:
            self._doing_since = time.monotonic()
            self._view = replace(self._view, doing=text)
            self._live.start()
            self._live.refresh()
        elif self._view.step is None and self._total:
            self.note(f"{text} ...")
        try:
            yield
        finally:
            self._view = replace(self._view, doing="")

    def say(self, text: str) -> None:
        """Print a message above the view. Text that a model wrote cannot move the cursor or colour the terminal."""
        self._out.print(Text(printable(text, self._out.encoding)))

    def note(self, text: str) -> None:
        """As ``say``, of what is no warning: ``quiet`` leaves it out."""
        if not self._quiet:
            self.say(text)

    def summary(self, before: Evaluated | None, after: Evaluated, run_dir: Path) -> None:
        """End the view and print the closing table and where the run folder is.

        Args:
            before: the evaluation of the base model; None leaves its column out.
        """
        self.close()
        self._out.print(results_table(before, after))
        self.say(f"run folder: {run_dir}")

    def close(self) -> None:
        """End the view, of which one line stays, and give the cursor back; idempotent."""
        live, self._live = self._live, None
        if live is None:
            return
        live.stop()
        if "reward" in self._view.values:
            self.say(self._plain_line(""))

    def _show(self, step: int, shown: Mapping[str, float]) -> None:
        assert self._live is not None
        parts = [part for part in (*PARTS, "other") if any(part in spent for spent in self._seconds)]
        self._view = replace(
            self._view,
            step=step,
            values={**self._view.values, **shown},
            reward=self._reward.points,
            pass_at_1=self._pass_at_1.points,
            seconds={part: math.fsum(spent.get(part, 0.0) for spent in self._seconds) for part in parts},
        )
        self._live.start()

    def _draw(self) -> rich.console.Group:
        width, height = self._out.size
        lines = draw(
            self._view,
            self._marks,
            left=self._pace.left(),
            doing_s=time.monotonic() - self._doing_since,
            width=width,
            height=height - 1,
        )
        return rich.console.Group(*lines)

    def _safe(self, text: str) -> str:
        ends = text if len(text) <= 2 * LONGEST_TEXT else f"{text[:LONGEST_TEXT]} {text[-LONGEST_TEXT:]}"
        return printable(ends, self._out.encoding)

    def _plain_line(self, left: str) -> str:
        values, parts = self._view.values, [f"step {self._view.step}/{self._total}"]
        for label, name, form in (
            ("reward ", "reward", "{:.2f}"),
            ("pass@1 ", "pass@1", "{:.2f}"),
            ("length ", "completions/mean_length", "{:.0f}"),
            ("", "step_time", "{:.3g} s/step"),
        ):
            if name in values:
                parts.append(label + form.format(values[name]))
        return "  ".join([*parts, left] if left else parts)


class _Lasting:
    """A text stream that is written to as long as it can be: a terminal may go while a run goes on."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._gone = file, False

    def write(self, text: str) -> int:
        self._unless_gone(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        self._unless_gone(self._file.flush)

    def _unless_gone(self, call: Any) -> None:
        if self._gone:
            return
        try:
            call()
        except (OSError, ValueError):  # ValueError: it was closed
            self._gone = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
