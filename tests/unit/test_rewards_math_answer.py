"""Mathematical answers: tables of right and wrong, hostile ones, and a child that may die at any time."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rewards import MathAnswerVerifier, Question, Status, Verdict


@pytest.fixture(scope="module")
def math() -> Iterator[MathAnswerVerifier]:
    verifier = MathAnswerVerifier(extract="whole", cpu_s=2.0)
    yield verifier
    verifier.close()


def judge(verifier: MathAnswerVerifier, answer: str, reference: str) -> Verdict:
    return verifier.verify(answer, Question(text="", reference=reference))


def test_right_answers_are_one_vote(math: MathAnswerVerifier) -> None:
    for reference, answer in [("4", "4.0"), (r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}"), ("0 < x < 12.5", "(0, 12.5)")]:
        verdict = judge(math, answer, reference)
        assert (verdict.score, verdict.status) == (1.0, Status.CORRECT)
        assert verdict.extracted == judge(math, reference, reference).extracted


@pytest.mark.parametrize(
    "answer",
    ["9^{9^{9^9}}", "10^{10^{8}}", "(10^9)!", "((30!)!)", "29^{11^{7}}", "{" * 500 + "}" * 500, "[" * 300]
    + ["10**10**8", r"\exp(\exp(\exp(9)))", r"\binom{10^9}{5\cdot 10^8}", r"\int_0^1 x dx", r"\sum_{k=1}^\infty 2^{-k}"]
    + [
        "(" * 3000 + "1" + ")" * 3000,
        "1+" * 20_000 + "1",
        "$" * 50_000,
        "{" * 20_000,
        "1" * 200_000,
        "\\frac" * 300,
        "1" + "!" * 900,
    ],
)
def test_answers_beyond_the_caps_are_refused_at_once(answer: str) -> None:
    verifier = MathAnswerVerifier(extract="whole")
    verdict = judge(verifier, answer, "1")
    assert (verdict.score, verdict.status) == (0.0, Status.UNPARSED)
    assert verdict.reason
    assert len(verdict.reason) < 300
    assert verifier.pool.pids == []


ENDLESS = r"\int_0^1 \frac{\sin(x^{17}+\cos(x^{13}))}{\ln(x^5+3)e^{x^{11}}} dx"


def test_an_answer_far_longer_than_its_reference_that_runs_on_is_a_timeout_of_its_own() -> None:
    verifier = MathAnswerVerifier(extract="whole", cpu_s=0.2)
    verdict = judge(verifier, f"{ENDLESS} + {ENDLESS}", ENDLESS + "+" + ENDLESS.replace("17", "19"))
    assert verdict.status is Status.HARNESS_ERROR
    longer = " + ".join([r"\frac{\sin(x^{12}+1)}{x+y+3}"] * 20)
    verdict = judge(verifier, longer, ENDLESS)
    assert (verdict.score, verdict.status) == (0.0, Status.TIMEOUT)
    assert "CPU time" in verdict.reason
    verifier.close()


def test_a_long_set_of_numbers_is_right_without_the_child() -> None:
    verifier = MathAnswerVerifier(extract="whole")
    ascending = r"\{" + ",".join(map(str, range(1000))) + r"\}"
    descending = r"\{" + ", ".join(map(str, reversed(range(1000)))) + r"\}"
    assert judge(verifier, descending, ascending).score == 1.0
    assert judge(verifier, descending.replace("999", "1999"), ascending).score == 0.0
    assert verifier.pool.pids == []
    verifier.close()


def test_long_texts_that_differ_at_their_end_are_not_the_same() -> None:
    verifier = MathAnswerVerifier(extract="whole")
    assert judge(verifier, "a+" * 2000 + "b", "a+" * 2000 + "c").score == 0.0
    assert judge(verifier, r"\{" + "1," * 2000 + r"2\}", r"\{" + "1," * 2000 + r"3\}").score == 0.0
    verifier.close()


@pytest.mark.parametrize(
    ("answer", "reference", "question"),
    [
        (r"\sum_{k=1}^{100} k", "5050", r"What is $\sum_{k=1}^{100} k$?"),
        ("14-(3+5)+2*6", "18", "14 - (3 + 5) + 2*6"),
    ],
)
def test_a_piece_of_the_question_is_no_answer(answer: str, reference: str, question: str) -> None:
    verifier = MathAnswerVerifier()
    completion = f"<answer>{answer}</answer>"
    verdict = verifier.verify(completion, Question(text=question, reference=reference))
    assert (verdict.score, verdict.status) == (0.0, Status.WRONG)
    assert "restates the question" in verdict.reason
    verifier.close()


def test_an_answer_written_as_the_reference_may_stand_in_the_question() -> None:
    verifier = MathAnswerVerifier()
    question = Question(text=r"Which is larger, $\sqrt{2}$ or $1.4$?", reference=r"\sqrt{2}")
    assert verifier.verify(r"<answer>\sqrt{2}</answer>", question).score == 1.0
    verifier.close()


def test_plain_numbers_never_start_the_child() -> None:
    verifier = MathAnswerVerifier()
    assert [judge(verifier, f"<answer>{text}</answer>", "4").extracted for text in ("4", "+4.0", "4.00", "5")] == [
        *"444",
        "5",
    ]
    assert verifier.check_reference("1,234.5") is None
    assert verifier.pool.pids == []


def test_a_child_killed_between_answers_is_replaced_unnoticed(math: MathAnswerVerifier) -> None:
    judge(math, r"\sin x", r"\cos x")
    (first,) = math.pool.pids
    os.kill(first, signal.SIGKILL)
    assert judge(math, r"\tan x", r"\frac{\sin x}{\cos x}").score == 1.0
    assert math.pool.pids != [first]
    assert not Path(f"/proc/{first}").exists()


def test_a_child_killed_in_the_middle_of_an_answer_is_asked_again(math: MathAnswerVerifier) -> None:
    judge(math, r"\sin x", r"\cos x")
    (first,) = math.pool.pids
    verdicts: list[Verdict] = []
    os.kill(first, signal.SIGSTOP)
    thread = threading.Thread(target=lambda: verdicts.append(judge(math, r"\cot x", r"\frac{\cos x}{\sin x}")))
    thread.start()
    time.sleep(0.2)
    assert not verdicts
    os.kill(first, signal.SIGKILL)
    thread.join()
    assert verdicts[0].status is Status.CORRECT  # judged off the main thread, too
    assert not Path(f"/proc/{first}").exists()


def test_a_child_that_dies_twice_is_no_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.math_answer._CHILD", "rewards.no_such_child")
    verifier = MathAnswerVerifier(extract="whole")
    verdict = judge(verifier, r"\sin x", r"\cos x")
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert judge(verifier, "4", "4").score == 1.0


def test_canonical_forms_make_one_vote_of_one_wrong_answer(math: MathAnswerVerifier) -> None:
    spellings = [r"\frac{\pi}{2}", "pi/2", r"\pi/2", r"\frac{1}{2}\pi", "0.5π"]
    assert {judge(math, spelling, r"\frac{\pi}{3}").extracted for spelling in spellings} == {"pi/2"}
    assert {judge(math, text, "(5,5)").extracted for text in ("(1,2)", r"\left(1, 2.0\right)")} == {"(1, 2)"}
    assert {judge(math, text, "4").extracted for text in ("x=1, x=2", r"\{2, 1\}", "2 or 1")} == {"{1, 2}"}
    assert {judge(math, text, r"\text{(A)}").extracted for text in ("B", "(B)", r"\text{(B)}")} == {"B"}


def test_references_are_checked(math: MathAnswerVerifier) -> None:
    for reference in (r"\frac{\sqrt{3}}{2}", r"\text{June 20}", "Evelyn", r"\int_0^1 x dx", "1,000"):
        assert math.check_reference(reference) is None
    for reference in ("", "9^{9^{9^9}}", "(" * 100, r"\frac{", "@{#"):
        assert math.check_reference(reference)
    verdict = judge(math, "1+x", "9^{9^{9^9}}")
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)


@pytest.mark.parametrize("reference", ["", "$", "(" * 100, "1+" * 5000])
def test_a_reference_that_cannot_be_judged_gives_no_score(math: MathAnswerVerifier, reference: str) -> None:
    assert judge(math, "x+1", reference).status is Status.HARNESS_ERROR


def test_an_empty_answer_is_unparsed(math: MathAnswerVerifier) -> None:
    assert [judge(math, text, "42").status for text in ("", " ", r"\boxed{}")] == [Status.UNPARSED] * 3


def test_verdicts_repeat(math: MathAnswerVerifier) -> None:
    pairs = [(r"\frac{x^2-1}{x-1}", "x+1"), ("x^2", "2x"), (r"\{a,b\}", r"\{b,a\}")]
    first = [judge(math, *pair).extracted for pair in pairs]
    math.close()
    assert [judge(math, *pair).extracted for pair in pairs] == first


def test_many_threads_share_the_children() -> None:
    verifier = MathAnswerVerifier(extract="whole", num_workers=2)
    with ThreadPoolExecutor(6) as threads:
        pairs = [(rf"\sin({n}x)", rf"\cos(\frac{{\pi}}{{2}} - {n + n % 2}x)") for n in range(2, 26)]
        verdicts = list(threads.map(lambda pair: judge(verifier, *pair).score, pairs))
    assert verdicts == [float(n % 2 == 0) for n in range(2, 26)]
    assert len(verifier.pool.pids) <= 2
    verifier.close()


def test_the_child_fits_its_memory(math: MathAnswerVerifier) -> None:
    assert judge(math, r"\frac{1}{2}", r"\int_0^1 x dx").score == 1.0  # sympy and math-verify at work
    (pid,) = math.pool.pids
    status = Path(f"/proc/{pid}/status").read_text()
    peak_kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmPeak")))
    assert peak_kib < 256 * 1024


@pytest.mark.parametrize("argument", ["cpu_s", "memory_mb", "num_workers", "extract"])
def test_an_argument_out_of_range_is_named(argument: str) -> None:
    wrong: dict[str, Any] = {argument: "tags" if argument == "extract" else 0}
    with pytest.raises(ValueError, match=argument):
        MathAnswerVerifier(**wrong)
