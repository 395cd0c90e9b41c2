"""Mathematical answers: tables of right and wrong, hostile ones, and a child that may die at any time."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import MathAnswerVerifier, Question, Status, Verdict


@pytest.fixture(scope="module")
def math() -> Iterator[MathAnswerVerifier]:
    verifier = MathAnswerVerifier(extract="whole", cpu_s=2.0)
    yield verifier
    verifier.close()


def judge(verifier: MathAnswerVerifier, answer: str, reference: str) -> Verdict:
    return verifier.verify(answer, Question(text="", reference=reference))


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("4", "4.0"),
        (r"\frac{1}{2}", "0.5"),
        ("5/4", "1 1/4"),
        ("1000", "1 000"),
        ("13", r"\text{13}"),
        (r"\dfrac{\pi}{2}", "pi/2"),
        (r"-2\pi", "-2*pi"),
        (r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}"),
        ("2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}"),
        (r"\tan^2(y)+1", r"\sec^2(y)"),
        ("0 < x < 12.5", "(0, 12.5)"),
        (r"(1,\frac{9}{2})", "(1,4.5)"),
        (r"x \leq 5", r"5 \geq x"),
        (r"28\%", "28"),
        (r"\text{Evelyn}", r"\text{evelyn}"),
        ("(p,q)=(3,2)", "(3,2)"),
        (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}"),
        ("2", "x = 2"),
        ("4", "2 + 2 = 4"),
        ("-1+e^{16}", "e^{16}-1"),
        (r"\{1,2,3\}", r"\{3, 1, 2\}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1.0\\2\end{pmatrix}"),
        ("12", r"\text{The answer is } 12"),
        (r"\frac{5}{8}", r"\frac{1}{1+\frac{1}{1+\frac{1}{1+\frac{1}{2}}}}"),
        ("2", r"\sqrt{\sqrt{\sqrt{256}}}"),
    ],
)
def test_right_answers(math: MathAnswerVerifier, reference: str, answer: str) -> None:
    verdict = judge(math, answer, reference)
    assert (verdict.score, verdict.status) == (1.0, Status.CORRECT)
    assert verdict.extracted == judge(math, reference, reference).extracted  # one vote


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        ("0", r"\frac{1}{2006!}"),
        (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3 \cdot 2^{2006}}"),
        ("n=2, 3, 4", "n=1, 2, 3"),
        (r"\pm 2021", "2021"),
        ("4", r"4\sqrt(2)"),
        ("1331 and 1728", "1728"),
        ("10", "4 10/3"),
        ("33.3", r"\frac{100}{3}"),
        (r"\frac{1}{3}", "0.333333"),
        ("7 = 11a+c", "11a+c"),
        ("(3,1)", r"\{1,3\}"),
        ("7", "1,2,3,4,5,6,7,8,9,10"),
        ("7", "7 or 8"),
        ("7", r"\boxed{7} or \boxed{8}"),
        ("x", "x = x"),
        ("0", "3*x-1*y+13=0"),
        ("4", "1 + 1 = 4"),
        ("x", "|x|"),
        ("1", r"\frac{1}{0}"),
        ("1", "9**9**9**9"),
    ],
)
def test_wrong_answers(math: MathAnswerVerifier, reference: str, answer: str) -> None:
    verdict = judge(math, answer, reference)
    assert verdict.score == 0.0
    assert verdict.status in (Status.WRONG, Status.UNPARSED)


@pytest.mark.parametrize(
    "answer",
    ["9^{9^{9^9}}", "10^{10^{8}}", "(10^9)!", "((30!)!)", "29^{11^{7}}", "{" * 500 + "}" * 500, "[" * 300]
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
def test_answers_beyond_the_caps_are_refused_at_once(math: MathAnswerVerifier, answer: str) -> None:
    verdict = judge(math, answer, "1")
    assert (verdict.score, verdict.status) == (0.0, Status.UNPARSED)
    assert verdict.reason
    assert len(verdict.reason) < 300


def test_an_answer_that_asks_for_endless_work_is_a_timeout_of_its_own() -> None:
    verifier = MathAnswerVerifier(extract="whole", cpu_s=0.2)
    answer = r"\sum_{k=1}^{7000} \frac{\sin(k!)}{k^{k}} + \int_0^1 \frac{\sin(x^{17}+\cos(x^{13}))}{\ln(x^5+3)} dx"
    verdict = judge(verifier, answer, r"\frac{\pi}{7}")
    assert (verdict.score, verdict.status) == (0.0, Status.TIMEOUT)
    assert "CPU time" in verdict.reason
    verifier.close()


def test_a_slow_answer_far_longer_than_its_reference_is_not_left_unscored() -> None:
    verifier = MathAnswerVerifier(extract="whole", cpu_s=0.1)
    assert judge(verifier, "x_{1}" * 190, "x+1").status is Status.TIMEOUT
    verifier.close()


def test_a_comparison_past_its_limit_on_a_plain_answer_is_not_scored() -> None:
    verifier = MathAnswerVerifier(extract="whole", cpu_s=0.1)
    terms = "+".join(rf"\sqrt{{\sin(x_{{{i}}})^2 + {i}.5}}" for i in range(2, 30))
    verdict = judge(verifier, f"{terms}+1", f"{terms}+2")
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    verifier.close()


def test_a_long_set_of_numbers_is_right_without_the_child() -> None:
    verifier = MathAnswerVerifier(extract="whole")
    ascending = r"\{" + ",".join(map(str, range(1000))) + r"\}"
    descending = r"\{" + ", ".join(map(str, reversed(range(1000)))) + r"\}"
    assert judge(verifier, descending, ascending).score == 1.0
    assert judge(verifier, descending.replace("999", "1999"), ascending).score == 0.0
    assert verifier._worker.pid is None
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
    assert verifier._worker.pid is None


def test_a_child_killed_between_answers_is_replaced_unnoticed(math: MathAnswerVerifier) -> None:
    judge(math, "x+y", "y+x")
    first = math._worker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert judge(math, "x+y", "y+x").score == 1.0
    assert math._worker.pid != first
    assert not Path(f"/proc/{first}").exists()


def test_a_child_killed_in_the_middle_of_an_answer_is_asked_again(math: MathAnswerVerifier) -> None:
    judge(math, "x+y", "y+x")
    first = math._worker.pid
    assert first is not None
    verdicts: list[Verdict] = []
    os.kill(first, signal.SIGSTOP)
    thread = threading.Thread(target=lambda: verdicts.append(judge(math, "a+b", "b+a")))
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
    verdict = judge(verifier, "x+y", "y+x+1")
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert judge(verifier, "4", "4").score == 1.0


def test_canonical_forms_make_one_vote_of_one_wrong_answer(math: MathAnswerVerifier) -> None:
    spellings = [r"\frac{\pi}{2}", "pi/2", r"\pi/2", r"\frac{1}{2}\pi"]
    assert {judge(math, spelling, r"\frac{\pi}{3}").extracted for spelling in spellings} == {"pi/2"}


def test_references_are_checked(math: MathAnswerVerifier) -> None:
    assert math.check_reference(r"\frac{\sqrt{3}}{2}") is None
    for reference in ("", "9^{9^{9^9}}", "(" * 100, r"\frac{"):
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
