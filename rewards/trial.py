"""Try a reward function before a run does: its verdicts on samples, its time and memory, and hostile texts.

grpo reward test my_rewards.py:brevity --data problems.jsonl
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rewards.hostile import HOSTILE
from rewards.verdict import JointVerifier, Question, Verdict, Verifier

MAX_ROWS = 16
SLOW_S = 2.0
_EXAMPLE = ({"question": "What is 6 * 7?", "answer": "42"}, {"question": "What is 9 - 4?", "answer": "5"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One answer and the verdict on it; ``seconds`` are wall time as the caller sees it."""

    label: str
    verdict: Verdict
    seconds: float


@dataclass(slots=True)
class Trial:
    """What came of trying a verifier. ``findings`` are what a run would suffer from, in words."""

    cases: list[Case] = field(default_factory=list)
    hostile: list[Case] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    peak_mb: float | None = None  # of its largest process; None where it has none of its own

    def lines(self) -> Iterator[str]:
        """The trial as a table in plain text."""
        yield from _table("answers", self.cases)
        yield from _table("hostile texts", self.hostile)
        seconds = sorted(case.seconds for case in (*self.cases, *self.hostile))
        p99 = seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))]
        memory = "no process of its own" if self.peak_mb is None else f"{self.peak_mb:.0f} MB in its largest process"
        yield f"median {1000 * seconds[len(seconds) // 2]:.1f} ms, p99 {1000 * p99:.0f} ms, {memory}"
        yield ""
        yield from self.findings or ["nothing found that a run would suffer from"]


def try_verifier(
    verifier: Verifier,
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    waiting: Callable[[str], None] = lambda _: None,
) -> Trial:
    """Judge answers to each row's problem, the same ones again in another order, and every hostile text.

    Args:
        rows: columns ``question`` and ``answer`` (or ``reference``); ``completion`` where there is one, as in a run's
            transcripts, else the reference itself, another row's, and none at all are judged. Absent: two sums.
        columns: other names of the columns ``question`` and ``reference``, by these.
        waiting: is told, from another thread, what is being judged where that takes longer than ``SLOW_S``.
    """
    trial, watched = Trial(), _Watched(verifier, waiting)
    if not rows:
        rows, columns = _EXAMPLE, {}
    rows = list(rows)[:MAX_ROWS]
    questions = [_question(row, columns) for row in rows]
    for place, (row, question) in enumerate(zip(rows, questions, strict=True)):
        texts = _answers(row, question.reference, questions[(place + 1) % len(rows)].reference)
        judged = watched.judge({f"{place}: {label}": text for label, text in texts.items()}, question)
        trial.cases += [_case(f"{place}: {label}", *one) for label, one in zip(texts, judged, strict=True)]
        _judge_again(watched, trial, place, texts, question, [verdict for verdict, _ in judged])
    for label, text in HOSTILE.items():
        ((verdict, seconds),) = watched.judge({label: text}, questions[0])
        trial.hostile.append(_case(label, verdict, seconds))
    _look_at(trial)
    trial.peak_mb = _peak_mb(verifier)
    return trial


@dataclass(frozen=True, slots=True)
class _Watched:
    """A verifier, and who is told of a verdict that is slow to come."""

    verifier: Verifier
    waiting: Callable[[str], None]

    def judge(self, texts: Mapping[str, str], question: Question) -> list[tuple[Verdict, float]]:
        """Verdict and seconds of each text, by label."""
        if self.verifier.scope == "sample":
            return [self._timed_one(label, text, question) for label, text in texts.items()]
        joint: JointVerifier = self.verifier  # type: ignore[assignment]
        with self._told(f"{next(iter(texts))} and {len(texts) - 1} more"):
            started = time.perf_counter()
            verdicts = joint.verify_all(list(texts.values()), [question] * len(texts))
            seconds = time.perf_counter() - started
        return [(verdict, seconds) for verdict in verdicts]

    def _timed_one(self, label: str, text: str, question: Question) -> tuple[Verdict, float]:
        with self._told(label):
            started = time.perf_counter()
            return self.verifier.verify(text, question), time.perf_counter() - started

    @contextlib.contextmanager
    def _told(self, label: str) -> Iterator[None]:
        timer = threading.Timer(SLOW_S, self.waiting, [label])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _judge_again(
    watched: _Watched, trial: Trial, place: int, texts: Mapping[str, str], question: Question, first: list[Verdict]
) -> None:
    """The same answers in another order must get the same scores: a run that resumes judges them again."""
    order = list(range(len(texts)))
    random.Random(0).shuffle(order)
    labels = list(texts)
    again = watched.judge({f"{place}: {labels[i]}, again": texts[labels[i]] for i in order}, question)
    changed = [labels[i] for i, (new, _) in zip(order, again, strict=True) if new.score != first[i].score]
    if changed:
        trial.findings.append(f"row {place}: judged again in another order, {', '.join(changed)} scored otherwise")


def _look_at(trial: Trial) -> None:
    unscored: dict[str, list[str]] = {}  # by the reason, which many may share
    for kind, cases in (("answer", trial.cases), ("hostile text", trial.hostile)):
        for case in cases:
            if case.verdict.score is None:
                unscored.setdefault(case.verdict.reason, []).append(f"{kind} '{case.label}'")
            if case.seconds > SLOW_S:
                trial.findings.append(f"{kind} '{case.label}' took {case.seconds:.1f} s")
    for reason, (first, *others) in unscored.items():
        have = f" and {len(others)} more have" if others else " has"
        trial.findings.append(f"{first}{have} no score: {reason}")
    scores = {case.verdict.score for case in trial.cases}
    if len(scores) == 1 and scores != {None}:
        trial.findings.append(f"every answer scored {scores.pop()}: nothing can be learned from that")
    best = max((case.verdict.score for case in trial.cases if case.verdict.score is not None), default=None)
    for case in trial.hostile:
        if best is not None and case.verdict.score is not None and case.verdict.score > best:
            trial.findings.append(f"hostile text '{case.label}' scored {case.verdict.score:g}, more than any answer")


def _question(row: Mapping[str, Any], columns: Mapping[str, str]) -> Question:
    """Raises ValueError naming the column that is missing."""
    asked, right = columns.get("question", "question"), columns.get("reference", "")
    text = row.get(asked, None if "question" in columns else row.get("problem"))
    reference = row.get(right) if right else row.get("reference", row.get("answer", row.get("solution")))
    for key, value in ((asked, text), (right or "reference' or 'answer", reference)):
        if value is None:
            raise ValueError(f"a row has no column '{key}': it has {', '.join(map(repr, row)) or 'none'}")
    return Question(text=str(text), reference=str(reference), columns=row)


def _answers(row: Mapping[str, Any], reference: str, other: str) -> dict[str, str]:
    if "completion" in row:
        return {"its completion": str(row["completion"])}
    return {
        "the reference": reference,
        "in answer tags": f"<think>So it is.</think> <answer>{reference}</answer>",
        "in a box": f"Hence \\boxed{{{reference}}}.",
        "another's reference": f"<think>So it is.</think> <answer>{other}</answer>",
        "nothing": "",
    }


def _case(label: str, verdict: Verdict, seconds: float) -> Case:
    return Case(label=label, verdict=verdict, seconds=seconds)


def _table(title: str, cases: Sequence[Case]) -> Iterator[str]:
    width = max(len(case.label) for case in cases)
    yield f"{title:{width}}  {'score':>7}  {'status':13}  {'ms':>7}  reason"
    for case in cases:
        score = "none" if case.verdict.score is None else f"{case.verdict.score:.3g}"
        reason = case.verdict.reason or (f"read as {case.verdict.extracted}" if case.verdict.extracted else "")
        shown = reason if len(reason) <= 80 else reason[:79] + "…"
        yield f"{case.label:{width}}  {score:>7}  {case.verdict.status:13}  {1000 * case.seconds:7.1f}  {shown}"
    yield ""


def _peak_mb(verifier: Verifier) -> float | None:
    pool = getattr(verifier, "pool", None)
    peaks = [_peak_of(pid) for pid in pool.pids] if pool is not None else []
    return max(peaks) if peaks else None


def _peak_of(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 1024
