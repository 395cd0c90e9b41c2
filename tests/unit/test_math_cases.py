"""Tables of right and wrong answers: our own, the hostile ones, and, where they are there, the shared files."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.math_corpus import OWN_REFERENCES, Written, corpus, read_references
from rewards import MathAnswerVerifier, Question, Status
from rewards.pool import Pool

CASES = [json.loads(line) for line in (Path(__file__).parent / "math_cases.jsonl").read_text("utf-8").splitlines()]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HOSTILE = [
    *("10**10**8", "2^{3^{4^5}}", r"\exp(\exp(\exp(9)))", r"\binom{10^9}{5\cdot 10^8}", "((5!)!)!", "((((9!)!)!)!)!"),
    *(r"\gamma(10^{20})", r"\Gamma(10^{20})", "10^{10^{10^{10}}}", "(((10^{9})^{9})^{9})^{9}", r"\prod_{k=1}^{10^9} k"),
    r"\sum_{i=1}^{1000} \sum_{j=1}^{1000} \sum_{k=1}^{1000} ijk",
    *(r"\sin(10^{10^6})", r"\lim_{n \to \infty} (1+\frac{1}{n})^{n^{n}}", "x^{x^{x^{x^{x}}}}", "(a+b+c+d)^{99}"),
    r"\int_0^1 \int_0^1 \int_0^1 e^{x^{y^{z}}} dx dy dz",
    r"\begin{vmatrix}" + r"\\".join("&".join("abcdefg"[i:] + "abcdefg"[:i]) for i in range(7)) + r"\end{vmatrix}",
    r"\begin{pmatrix}" + "&".join("1" * 450) + r"\end{pmatrix}",
    *("12345678901234567890123^{4567}", r"\sum_{k=1}^{\infty} \frac{\sin k}{k^k}", r"7 \mod 10^{10^9}"),
    *(r"\sqrt{" * 20 + "2" + "}" * 20, r"\frac{1}{1+" * 20 + "x" + "}" * 20, "0." + "3" * 900, "7" * 900),
    *("(x+1)^{12}" * 90, "(x+y+1)^9+" * 80 + "1", r"\sin(" * 20 + "x" + ")" * 20, "-" * 900 + "1", "x^" * 400 + "x"),
    *("a_" * 400, "|" * 400, r"\pm 1" * 150, ",".join("1" * 400), "=".join("x" * 400), "f(" * 22 + ")" * 22),
]


@pytest.fixture(scope="module")
def verifiers() -> Iterator[dict[str, MathAnswerVerifier]]:
    made = {name: MathAnswerVerifier(extract=name) for name in ("whole", "boxed", "answer_tags", "auto")}
    yield made
    for verifier in made.values():
        verifier.close()


def score(verifier: MathAnswerVerifier, completion: str, reference: str) -> float | None:
    return verifier.verify(completion, Question(text="", reference=reference)).score


def test_the_table_is_judged_right_bare_and_boxed(verifiers: dict[str, MathAnswerVerifier]) -> None:
    assert len(CASES) >= 150
    missed = []
    for case in CASES:
        scores = {score(verifiers["whole"], case["answer"], case["reference"])}
        if case["answer"].count("{") == case["answer"].count("}"):
            scores.add(score(verifiers["boxed"], f"so \\boxed{{{case['answer']}}}.", case["reference"]))
        if scores != {float(case["match"])}:
            missed.append((case, scores))
    assert missed == []


def test_every_reference_of_the_table_is_its_own_answer(verifiers: dict[str, MathAnswerVerifier]) -> None:
    references = {case["reference"] for case in CASES}
    assert {score(verifiers["whole"], f" ${reference}$ ", reference) for reference in references} == {1.0}


@pytest.mark.parametrize("reference", ["1", "x", r"\frac{\pi}{2}"])
def test_hostile_answers_are_scored_and_within_their_limits(
    verifiers: dict[str, MathAnswerVerifier], reference: str
) -> None:
    for answer in HOSTILE:
        verifier = verifiers["whole"]
        num_replaced, started = verifier.pool.num_replaced, time.process_time()
        verdict = verifier.verify(answer, Question(text="", reference=reference))
        assert verdict.score == 0.0, answer
        assert time.process_time() - started < 1.0, answer
        assert verifier.pool.num_replaced == num_replaced, f"{answer}: {verdict.reason}"


@pytest.mark.parametrize("name", ["own", "math500.jsonl", "aime24.jsonl"])
def test_references_verify_in_five_writings_and_wrong_answers_do_not(
    verifiers: dict[str, MathAnswerVerifier], name: str
) -> None:
    if name != "own" and not (DATA / name).exists():
        pytest.skip(f"{name} is not in {DATA}")
    references = OWN_REFERENCES if name == "own" else read_references(DATA / name)
    missed = [written for written in corpus(references) if not _holds(verifiers, written)]
    assert missed == []


def _holds(verifiers: dict[str, MathAnswerVerifier], written: Written) -> bool:
    return score(verifiers[written.extract], written.completion, written.reference) == float(written.is_right)


def test_most_answers_never_reach_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(Pool, "ask_twice", lambda self, request: asked.append(request) or {"outcome": "equal"})
    verifier = MathAnswerVerifier(extract="whole")
    written = [item for item in corpus(OWN_REFERENCES) if item.extract == "whole"]
    for item in written:
        score(verifier, item.completion, item.reference)
    assert 0 < len(asked) < 0.05 * len(written)


def shared_cases() -> list[dict[str, Any]]:
    if not (DATA / "math_cases.jsonl").exists():
        pytest.skip(f"math_cases.jsonl is not in {DATA}")
    return [json.loads(line) for line in (DATA / "math_cases.jsonl").read_text("utf-8").splitlines()]


def test_every_shared_case_is_judged_right(verifiers: dict[str, MathAnswerVerifier]) -> None:
    """None differs by convention: those whose note calls them conventions are followed too."""
    missed = []
    for case in shared_cases():
        names = ("auto",) if case["kind"] in ("extract", "dos-extract") else ("whole",)
        missed += [case for name in names if score(verifiers[name], case["answer"], case["gold"]) != case["match"]]
        if case["kind"] == "pair":
            boxed = score(verifiers["boxed"], f"\\boxed{{{case['answer']}}}", case["gold"])
            missed += [case] if boxed != case["match"] else []
    assert missed == []


def test_no_shared_hostile_input_needs_a_second(verifiers: dict[str, MathAnswerVerifier]) -> None:
    for case in shared_cases():
        if case["kind"].lower().startswith("dos"):
            for extract in ("whole", "auto"):
                started = time.process_time()
                verdict = verifiers[extract].verify(case["answer"], Question(text="", reference=case["gold"]))
                assert verdict.status in (Status.UNPARSED, Status.WRONG)
                assert time.process_time() - started < 0.5
    assert sum(verifier.pool.num_replaced for verifier in verifiers.values()) == 0


@pytest.mark.slow
def test_verdicts_are_the_same_under_a_four_fold_load() -> None:
    """On a machine where every core has four other processes to run."""
    references = [case["reference"] for case in CASES]
    answers = [case["answer"] for case in CASES]
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))]
    verifier = MathAnswerVerifier(extract="whole")
    try:
        scores = [score(verifier, answer, reference) for answer, reference in zip(answers, references, strict=True)]
        hostile = [score(verifier, answer, "x") for answer in HOSTILE]
    finally:
        for process in busy:
            process.kill()
            process.wait()
        verifier.close()
    assert scores == [float(case["match"]) for case in CASES]
    assert set(hostile) == {0.0}
