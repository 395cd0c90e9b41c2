"""Verifiers that fail, hang, or need the main thread: none of it may look like a wrong answer, or stop a run unseen."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from grpo.advantages import advantages_of_step
from grpo.datatypes import Group, Problem, Prompt, ScoredCompletion
from grpo.errors import VerifierError
from grpo.recipe import Algorithm, Reward, Scoring
from grpo.scoring import Scorer
from rewards import reward_function
from rewards.math_answer import MathAnswerVerifier
from rewards.verdict import Question, Status, Verdict
from rewards.worker import _descendants
from tests.factories import make_completion, make_segment
from tests.immunity.runs import make_trainer, run_recipe, train

FUNCTIONS = """
import signal
import time

from rewards.reward_function import reward

def _alarmed(completion):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(5)
    signal.alarm(0)
    return float(completion == "right")

def alarmed(completion, problem):
    return _alarmed(completion)

@reward(placement="inline")
def alarmed_inline(completion, problem):
    return _alarmed(completion)

def hangs(completion, problem):
    while completion == "hang":
        pass
    return float(completion == "right")

def sleeps(completion, problem):
    if completion == "hang":
        time.sleep(600)
    return float(completion == "right")

@reward(placement="inline")
def fails(completion, problem):
    if completion == "odd":
        raise ValueError("cannot parse the reference")
    return float(completion == "right")

@reward(placement="inline")
def always_fails(completion, problem):
    raise ConnectionError("the judge does not answer")
"""
TEXTS = ("right", "wrong", "right", "wrong")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verifiers") / "verifiers.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def score(file: Path) -> Iterator[Callable[..., list[ScoredCompletion]]]:
    """Answers of these texts to one problem, scored by a function of the file."""
    made: list[Scorer] = []

    def scored(function: str, *texts: str, **limits: object) -> list[ScoredCompletion]:
        made.append(Scorer([Reward(fn=f"{file}:{function}")], Scoring(**limits)))  # type: ignore[arg-type]
        prompt = Prompt(problem=Problem(problem_id="p", question="", reference=""), token_ids=(3, 4), ordinal=0)
        segment = make_segment(np.random.default_rng(0), 3)
        answers = [make_completion(prompt, index, [segment], text=text) for index, text in enumerate(texts)]
        return made[-1].score_all(answers, len(texts))

    yield scored
    for scorer in made:
        scorer.close()


def rewards_of(scored: list[ScoredCompletion]) -> list[float | None]:
    return [member.reward for member in scored]


def off_the_main_thread(action: Callable[[], list[ScoredCompletion]]) -> list[ScoredCompletion]:
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(action).result()


def test_an_alarm_in_a_verifier_scores_right_wherever_the_trainer_calls_it(
    score: Callable[..., list[ScoredCompletion]],
) -> None:
    scored = off_the_main_thread(lambda: score("alarmed", *TEXTS))
    assert rewards_of(scored) == [1.0, 0.0, 1.0, 0.0]


def test_an_alarm_off_the_main_thread_is_a_failure_and_no_zero(score: Callable[..., list[ScoredCompletion]]) -> None:
    scored = off_the_main_thread(lambda: score("alarmed_inline", *TEXTS))
    assert rewards_of(scored) == [None] * 4
    verdict = scored[0].verdicts["alarmed_inline"]
    assert verdict.status is Status.HARNESS_ERROR
    assert "signal only works in main thread" in verdict.reason


def test_mathematics_is_judged_alike_off_the_main_thread_and_endless_work_is_ended() -> None:
    verifier = MathAnswerVerifier(extract="boxed", cpu_s=0.5)
    # the first is from Math-Verify issue 65
    tower = r"\boxed{\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}}"
    endless = r"\boxed{\int_0^1 \frac{\sin(x^{17}+\cos(x^{13}))}{\ln(x^5+3)e^{x^{11}}} dx}"
    texts = [r"\boxed{\frac{2}{6}}", r"\boxed{x+1}", tower, endless]
    question = Question(text="", reference=r"\frac{1}{3}")
    verdicts: list[Verdict] = []
    judging = threading.Thread(target=lambda: verdicts.extend(verifier.verify(text, question) for text in texts))
    judging.start()
    judging.join()
    verifier.close()
    assert [verdict.score for verdict in verdicts] == [1.0, 0.0, 0.0, 0.0]


def test_a_verifier_that_never_ends_is_ended_and_named(score: Callable[..., list[ScoredCompletion]]) -> None:
    scored = score("hangs", "right", "hang", "wrong", cpu_s=0.3)
    assert rewards_of(scored) == [1.0, None, 0.0]
    assert "verifiers.py:hangs: ran past its CPU time" in scored[1].verdicts["hangs"].reason


def test_verifiers_past_their_limit_give_their_places_back(file: Path) -> None:
    """Twice as many hang as there are processes, each of them twice; all that come after them are still judged."""
    before = set(_descendants(os.getpid()))
    scorer = Scorer([Reward(fn=f"{file}:hangs")], Scoring(num_workers=2, cpu_s=0.2))
    prompt = Prompt(problem=Problem(problem_id="p", question="", reference=""), token_ids=(3, 4), ordinal=0)
    segment = make_segment(np.random.default_rng(0), 3)
    texts = ["hang"] * 4 + ["right"] * 4
    answers = [make_completion(prompt, index, [segment], text=text) for index, text in enumerate(texts)]
    scored = scorer.score_all(answers, len(answers))
    assert rewards_of(scored) == [None] * 4 + [1.0] * 4
    assert scorer.take_stats().num_replaced == 8  # each was asked twice
    assert len(set(_descendants(os.getpid())) - before) <= 2
    scorer.close()
    assert set(_descendants(os.getpid())) <= before


def test_a_verifier_that_failed_leaves_its_group_and_shapes_no_baseline(
    score: Callable[..., list[ScoredCompletion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = score("fails", "right", "odd", "wrong")
    assert rewards_of(scored) == [1.0, None, 0.0]
    group = Group(prompt=scored[0].completion.prompt, members=tuple(scored))
    (advantages,) = advantages_of_step([group.rewards_G], Algorithm(scale_rewards="none"))
    assert advantages.tolist() == [0.5, -0.5]  # with a zero in between they would be 2/3 and -1/3

    def as_zero(reason: str) -> Verdict:
        return Verdict(score=0.0, status=Status.HARNESS_ERROR, reason=reason)

    monkeypatch.setattr(reward_function, "failed", as_zero)
    with pytest.raises(ValueError, match="score 0.0 does not go with status 'harness_error'"):
        score("fails", "right", "odd", "wrong")


def test_a_verifier_that_fails_on_everything_stops_the_run_and_is_named(
    file: Path, dense_folder: Path, tmp_path: Path
) -> None:
    scorer = Scorer([Reward(fn=f"{file}:always_fails")])
    recipe = run_recipe(problems_per_step=4, num_generations=8)
    run = make_trainer(tmp_path / "run", dense_folder, recipe, score_all=scorer.score_all)
    with pytest.raises(VerifierError, match="reward 'always_fails' failed with: .*the judge does not answer"):
        train(run)
    scorer.close()


def test_a_reward_that_is_stuck_is_told_by_its_name_and_not_as_a_silent_network(
    score: Callable[..., list[ScoredCompletion]],
) -> None:
    scored = score("sleeps", "right", "hang", "wrong", deadline_s=1.0)
    assert rewards_of(scored) == [1.0, None, 0.0]
    assert "verifiers.py:sleeps: ran past its wall time" in scored[1].verdicts["sleeps"].reason
