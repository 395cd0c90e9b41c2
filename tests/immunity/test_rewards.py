"""Reward functions that give one number for a batch, or none that is a number."""

from pathlib import Path

import pytest

from grpo.datatypes import Group
from rewards.reward_function import RewardFunction
from rewards.verdict import Question, Status, Verdict
from tests.factories import make_completion, make_prompt, make_scored

FUNCTIONS = """
def one_for_all(completions, **kwargs): return [1.0]
def one_too_few(completions, **kwargs): return [1.0] * (len(completions) - 1)
def a_number(completions, **kwargs): return 1.0
def one_nan(completions, **kwargs): return [float("nan"), *[1.0] * (len(completions) - 1)]
def one_none(completions, **kwargs): return [None, *[1.0] * (len(completions) - 1)]
"""
QUESTIONS = [Question(text="", reference="")] * 4


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewards") / "rewards_of_a_user.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one_for_all", "returned 1 scores for 4 answers; one for each is needed"),
        ("one_too_few", "returned 3 scores for 4 answers; one for each is needed"),
        ("a_number", "returned 1.0; a list of 4 scores is needed"),
    ],
)
def test_one_reward_for_many_answers_is_not_spread_over_them(file: Path, name: str, said: str) -> None:
    verdicts = RewardFunction(f"{file}:{name}")(["a", "b", "c", "d"], QUESTIONS)
    assert [verdict.score for verdict in verdicts] == [None] * 4
    assert {verdict.status for verdict in verdicts} == {Status.HARNESS_ERROR}
    assert all(said in verdict.reason for verdict in verdicts)


@pytest.mark.parametrize(("name", "status"), [("one_nan", Status.HARNESS_ERROR), ("one_none", Status.UNSCORED)])
def test_what_is_no_number_is_no_zero(file: Path, name: str, status: Status) -> None:
    verdicts = RewardFunction(f"{file}:{name}")(["a", "b", "c", "d"], QUESTIONS)
    assert [verdict.score for verdict in verdicts] == [None, 1.0, 1.0, 1.0]
    assert verdicts[0].status is status
    prompt = make_prompt()
    members = (make_scored(make_completion(prompt, i, []), verdict.score) for i, verdict in enumerate(verdicts))
    assert Group(prompt=prompt, members=tuple(members)).rewards_G.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_no_verdict_holds_what_is_no_number(score: float) -> None:
    with pytest.raises(ValueError, match="score must be finite"):
        Verdict(score=score, status=Status.WRONG)
