"""Verdicts on mathematical answers: how many a second, how late, how right, with math-verify alone beside them.

    python benchmarks/verdicts.py [--quick] [--math500 FILE] [--cases FILE]

The corpus is every reference in five right writings and five wrong ones: those of MATH-500 (``--math500``, its JSONL
file) or a small corpus of our own. ``--cases`` is a JSONL file of ``gold``, ``answer``, ``match`` and ``kind``; its
hostile cases run math-verify in a process of its own each, which is given 10 s of wall time and 2 GiB; one that had to
be killed has given no verdict. ``--quick``:
fewer verdicts by math-verify, and none of the hostile cases by it.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from math_corpus import OWN_REFERENCES, Written, corpus, read_references
from report import Row, at_least, at_most, print_report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import math_verify  # noqa: E402

from rewards import MathAnswerVerifier, Question, Verdict  # noqa: E402
from rewards.extract import extractor  # noqa: E402
from rewards.pool import Pool  # noqa: E402
from rewards.worker import Message  # noqa: E402

HOSTILE_S = 10.0
HOSTILE_BYTES = 2 << 30


class Timed(NamedTuple):
    is_right: bool
    wall_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--math500", type=Path, help="JSONL file with the column answer")
    parser.add_argument("--cases", type=Path, help="JSONL file with gold, answer, match, kind")
    args = parser.parse_args()
    written = corpus(read_references(args.math500) if args.math500 else OWN_REFERENCES)
    rows = [Row("corpus", len(written), "answers, half of them right"), *our_rows(written)]
    rows += their_rows(random.Random(0).sample(written, min(len(written), 100 if args.quick else 1_000)))
    if args.cases:
        cases = [json.loads(line) for line in args.cases.read_text("utf-8").splitlines()]
        rows += case_rows(cases, quick=args.quick)
    print_report("verdicts", rows)


def our_rows(written: Sequence[Written]) -> list[Row]:
    verifiers = {name: MathAnswerVerifier(extract=name) for name in ("whole", "boxed", "answer_tags")}
    pool = CountingPool("rewards.math_child", verifiers["whole"].pool.limits)
    for verifier in verifiers.values():
        verifier.pool = pool
    pool.greeting()
    cpu_before = cpu_seconds(pool.pids)
    timed = [
        judge_timed(item, lambda one: score_of(verifiers[one.extract], one.completion, one.reference))
        for item in written
    ]
    cpu_s = cpu_seconds(pool.pids) - cpu_before
    pool.close()
    return [
        at_least("verdicts per core", len(written) / cpu_s, "1/s of CPU", 150),
        at_least("verdicts, one at a time", len(written) / sum(one.wall_s for one in timed), "1/s", 150),
        *latency_rows("", timed, goal_ms=300.0),
        Row("decided in the calling process", 1 - pool.num_asked / len(written), "of all"),
        at_least("right verdicts", statistics.mean(one.is_right for one in timed), "of all", 0.99),
    ]


def their_rows(written: Sequence[Written]) -> list[Row]:
    """math-verify's own way: parse both sides and compare, in this process, with its own time limit."""
    their_verdict("1", "1")
    before = time.process_time()
    timed = [judge_timed(item, lambda one: their_verdict(span_of(one), one.reference)) for item in written]
    cpu_s = time.process_time() - before
    return [
        Row(f"math-verify alone, {len(written)} of them: verdicts per core", len(written) / cpu_s, "1/s of CPU"),
        *latency_rows("math-verify alone: ", timed, goal_ms=None),
        Row("math-verify alone: right verdicts", statistics.mean(one.is_right for one in timed), "of all"),
    ]


def case_rows(cases: Sequence[dict[str, object]], *, quick: bool) -> list[Row]:
    """Right verdicts on a file of cases, for both."""
    verifier = MathAnswerVerifier(extract="auto")
    whole = MathAnswerVerifier(extract="whole")
    whole.pool = verifier.pool
    verifier.pool.greeting()  # its start is not what is timed
    rows = []
    for label, hostile in (("comparison and extraction", False), ("hostile", True)):
        chosen = [case for case in cases if str(case["kind"]).lower().startswith("dos") == hostile]
        ours = [
            judge_case(case, partial(score_of, verifier if "extract" in str(case["kind"]) else whole))
            for case in chosen
        ]
        rows.append(at_least(f"cases, {label}: right", sum(one.is_right for one in ours), "", len(chosen)))
        rows.append(at_most(f"cases, {label}: slowest", max(one.wall_s for one in ours), "s", 2.0))
        if not (hostile and quick):
            theirs = [judge_case(case, hostile_verdict if hostile else their_verdict) for case in chosen]
            rows.append(Row(f"cases, {label}: right by math-verify alone", sum(one.is_right for one in theirs), ""))
            rows.append(Row(f"cases, {label}: slowest by math-verify alone", max(one.wall_s for one in theirs), "s"))
    verifier.close()
    return rows


class CountingPool(Pool):
    """Counts what reaches a child."""

    num_asked = 0

    def ask_twice(self, request: Message) -> Message:
        self.num_asked += 1
        return super().ask_twice(request)


def score_of(verifier: MathAnswerVerifier, completion: str, reference: str) -> float | None:
    verdict: Verdict = verifier.verify(completion, Question(text="", reference=reference))
    return verdict.score


def judge_timed(item: Written, judge: Callable[[Written], float | bool | None]) -> Timed:
    started = time.perf_counter()
    score = judge(item)
    return Timed(score is not None and bool(score) == item.is_right, time.perf_counter() - started)


def judge_case(case: dict[str, object], judge: Callable[[str, str], float | bool | None]) -> Timed:
    started = time.perf_counter()
    score = judge(str(case["answer"]), str(case["gold"]))
    return Timed(score is not None and bool(score) == case["match"], time.perf_counter() - started)


def their_verdict(answer: str, reference: str) -> bool:
    parsed = math_verify.parse(f"\\boxed{{{reference}}}"), math_verify.parse(f"\\boxed{{{answer}}}")
    return bool(math_verify.verify(*parsed))


def hostile_verdict(answer: str, reference: str) -> bool | None:
    """As ``their_verdict``, in a process that can be killed; None where it had to be."""
    code = "import json, sys, benchmarks.verdicts as b; print(int(b.their_verdict(*json.load(sys.stdin))))"
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'benchmarks')!r}]; {code}"],
            input=json.dumps([answer, reference]),
            capture_output=True,
            text=True,
            timeout=HOSTILE_S,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (HOSTILE_BYTES, HOSTILE_BYTES)),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return bool(int(done.stdout)) if done.returncode == 0 else None


def span_of(item: Written) -> str:
    return extractor(item.extract)(item.completion) or ""


def latency_rows(label: str, timed: Sequence[Timed], *, goal_ms: float | None) -> list[Row]:
    ordered = sorted(one.wall_s * 1000 for one in timed)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    last = Row(f"{label}p99", p99, "ms") if goal_ms is None else at_most(f"{label}p99", p99, "ms", goal_ms)
    return [Row(f"{label}p50", p50, "ms"), last]


def cpu_seconds(pids: Sequence[int]) -> float:
    """Of this process and of these children."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / 100


if __name__ == "__main__":
    main()
