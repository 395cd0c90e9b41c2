"""What the live view shows: a snapshot of the run, and the lines that it is drawn as.

The snapshot is replaced as a whole by the thread that trains; the thread that draws reads it once a second.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rich.text import Text

from grpo.console.marks import Marks, cells_of, folded
from grpo.sparkline import sparkline

LABEL, VALUE = 8, 7  # cells
ANSWER_LINES = 4
LONGEST_TEXT = 2000  # characters of each end of an answer that are looked at
NARROWEST = 20  # columns: below it the progress is all that is shown
HISTORY = 256  # points of a curve
PARTS = {  # of a step's time, by the metrics that hold their seconds; what none of them holds is "other"
    "sample": ("time/sample_s",),
    "score": ("time/score_s",),
    "learn": ("time/learn_s", "time/old_logprobs_s"),
    "publish": ("time/publish_s",),
    "evaluate": ("time/evaluate_s",),
    "checkpoint": ("time/checkpoint_s",),
}
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "white")


class Curve:
    """A whole run's values in at most ``HISTORY`` points: where they get more, neighbours become their mean.

    >>> curve = Curve(size=4)
    >>> for value in range(6): curve.add(value)
    >>> curve.points
    (0.5, 2.5, 4.5)
    """

    def __init__(self, size: int = HISTORY) -> None:
        self._size, self._each = size, 1
        self._means: list[float] = []
        self._pending: list[float] = []

    def add(self, value: float) -> None:
        """What is not a number has no place on it."""
        if not math.isfinite(value):
            return
        self._pending.append(value)
        if len(self._pending) < self._each:
            return
        self._means.append(math.fsum(self._pending) / self._each)
        self._pending = []
        if len(self._means) >= self._size:
            self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
            self._each *= 2

    @property
    def points(self) -> tuple[float, ...]:
        return tuple(self._means)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The newest transcript; its texts are printable."""

    question: str
    text: str
    status: str
    reward: float | None
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run as it stands.

    Attributes:
        step: the last one that was logged; absent before the first.
        doing: what goes on beside steps, such as starting the engine.
        values: the newest of each metric that is shown.
        seconds: of the last steps, by part.
    """

    total: int
    step: int | None = None
    doing: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    reward: tuple[float, ...] = ()
    pass_at_1: tuple[float, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    answer: Answer | None = None


def seconds_by_part(values: Mapping[str, float]) -> dict[str, float]:
    """Where a step's time went; ``step_time`` leaves evaluation and checkpoint out.

    >>> seconds_by_part({"step_time": 4.0, "time/sample_s": 1.5, "time/learn_s": 2.0, "time/checkpoint_s": 1.0})
    {'sample': 1.5, 'learn': 2.0, 'checkpoint': 1.0, 'other': 0.5}
    """
    parts = {part: math.fsum(values.get(name, 0.0) for name in names) for part, names in PARTS.items()}
    within = math.fsum(s for part, s in parts.items() if part not in ("evaluate", "checkpoint"))
    parts["other"] = values.get("step_time", 0.0) - within
    return {part: seconds for part, seconds in parts.items() if seconds > 0}


def draw(view: Snapshot, marks: Marks, *, left: str, doing_s: float, width: int, height: int) -> list[Text]:
    """The lines of the view, each at most ``width`` cells, at most ``height`` of them: the first matter most.

    Args:
        left: the time left, in words; empty where it is not known.
        doing_s: seconds for which ``view.doing`` has gone on.
    """
    lines = list(_lines(view, marks, left, doing_s, width))
    for line in lines:
        line.truncate(max(1, width), overflow="crop")
        line.no_wrap = True
    return lines[: max(1, height)]


def _lines(view: Snapshot, marks: Marks, left: str, doing_s: float, width: int) -> Iterator[Text]:
    if view.step is not None:
        yield _progress(view.step, view.total, marks, left, width)
    if view.doing:
        yield Text(f"{marks.spinner[int(doing_s) % len(marks.spinner)]} {view.doing} {doing_s:.0f} s", "dim")
    if view.step is None or width < NARROWEST:
        return
    for label, points in (("reward", view.reward), ("pass@1", view.pass_at_1)):
        if points:
            newest = view.values.get(label, points[-1])
            yield _curve(label, newest, points, marks, width)
    if view.seconds:
        yield from _time(view, marks, width)
    if numbers := _numbers(view.values):
        yield Text(numbers)
    if view.answer is not None:
        yield from _answer(view.answer, marks, width)


def _progress(step: int, total: int, marks: Marks, left: str, width: int) -> Text:
    before, after = f"step {step}/{total} ", f" {left}" if left else ""
    room = max(0, width - len(before) - len(after))
    cells = cells_of({"done": min(step, total), "left": max(0, total - step)}, room)
    line = Text(before, "bold")
    line.append(marks.done * cells["done"], "green").append(marks.to_do * cells["left"], "dim")
    return line.append(after)


def _curve(label: str, newest: float, points: tuple[float, ...], marks: Marks, width: int) -> Text:
    extent = f"  {min(points):.2f} to {max(points):.2f}" if len(points) > 1 and width >= 2 * NARROWEST else ""
    line = Text(f"{label:<{LABEL}}{newest:>{VALUE - 1}.2f} ")
    line.append(sparkline(points, width=width - len(line.plain) - len(extent), blocks=marks.levels), "green")
    return line.append(extent, "dim")


def _time(view: Snapshot, marks: Marks, width: int) -> Iterator[Text]:
    """One bar of the last steps' seconds, and below it what each part of it is."""
    line = Text(f"{'time':<{LABEL}}{_seconds(view.values.get('step_time', 0.0)):>{VALUE - 1}} ")
    order = [*PARTS, "other"]
    look = {part: (marks.fills[at], COLOURS[at]) for at, part in enumerate(order)}
    for part, cells in cells_of(view.seconds, width - len(line.plain)).items():
        line.append(look[part][0] * cells, look[part][1])
    yield line
    total = math.fsum(view.seconds.values())
    shown = sorted((part for part in view.seconds), key=lambda part: -view.seconds[part])
    texts = {part: f"{part} {_percent(view.seconds[part] / total)}" for part in shown}
    while len(shown) > 1 and sum(len(texts[part]) + 4 for part in shown) - 2 > width:
        shown.pop()  # the least
    legend = Text()
    for part in (part for part in view.seconds if part in shown):
        legend.append("  " if legend.plain else "").append(*look[part]).append(f" {texts[part]}")
    yield legend


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _numbers(values: Mapping[str, float]) -> str:
    parts = []
    if "completions/mean_length" in values:
        parts.append(f"length {values['completions/mean_length']:.0f}")
    if "completions/clipped_ratio" in values:
        parts.append(f"cut off {_percent(values['completions/clipped_ratio'])}")
    if "off_policy/mean" in values:
        most = values.get("off_policy/max", 0.0)
        parts.append(f"staleness {values['off_policy/mean']:.1f}, at most {most:.0f}")
    return "  ".join(parts)


def _answer(answer: Answer, marks: Marks, width: int) -> Iterator[Text]:
    reward = "no reward" if answer.reward is None else f"reward {answer.reward:.2f}"
    title = Text(f"{marks.rule * 2} newest answer: ", "dim")
    title.append(answer.status, {"correct": "green", "wrong": "red"}.get(answer.status, "yellow"))
    title.append(f", {reward}, {answer.num_tokens} tokens ", "dim")
    yield title.append(marks.rule * (width - len(title.plain)), "dim")
    question = folded(answer.question, width, 1, marks.ellipsis)
    yield from (Text(line, "dim") for line in question)
    yield from (Text(line) for line in folded(answer.text, width, ANSWER_LINES, marks.ellipsis))
