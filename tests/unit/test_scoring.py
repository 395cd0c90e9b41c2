"""Scoring: verdicts in any order of arrival, joint scopes, gates, second tries, the audit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from grpo.datatypes import Completion, Problem, Prompt, ScoredCompletion
from grpo.errors import RecipeError
from grpo.recipe import Audit, Reward, Scoring
from grpo.scoring import Scorer
from rewards.verdict import Status
from tests.factories import make_completion, make_segment

FUNCTIONS = """
import os
import time
from pathlib import Path

from rewards.reward_function import reward

def length(completion, problem):
    return float(len(completion))

def is_short(completion, problem):
    return float(len(completion) < 4)

def rank(completions, problems):
    return [float(sorted(completions).index(completion)) for completion in completions]

@reward(scope="batch")
def share_of_batch(completions, problems):
    return [completions.count(completion) / len(completions) for completion in completions]

def fails_at_first(completion, problem):
    mark = Path(os.environ["FAILS_AT_FIRST"]) / completion
    if mark.exists():
        return 1.0
    mark.touch()
    raise ConnectionError("try again")

def fails(completion, problem):
    return None if completion == "bad" else 1.0

def only_of_sums(completion, problem):
    return float(len(completion)) if "+" in problem.text else None

def below_zero(completion, problem):
    return -1.0

def strict(completion, problem):
    return float(completion == problem.reference)

def never(completion, problem):
    return 0.0

@reward(placement="service")
def waits_for_three_others(completion, problem):
    folder = Path(os.environ["MEETING_PLACE"])
    (folder / completion).touch()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if len(list(folder.iterdir())) >= 4:
            return 1.0
        time.sleep(0.01)
    return 0.0
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scoring") / "scorers.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def make_scorer(file: Path) -> Iterator[Callable[..., Scorer]]:
    made: list[Scorer] = []

    def make(*rewards: Reward | str, **settings: object) -> Scorer:
        listed = [Reward(fn=f"{file}:{item}") if isinstance(item, str) else item for item in rewards]
        made.append(Scorer(listed, Scoring(**settings), seed=3))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for scorer in made:
        scorer.close()


def answers(*texts: str, ordinal: int = 0, reference: str = "four") -> list[Completion]:
    problem = Problem(problem_id=f"p/{ordinal}", question="2 + 2?", reference=reference)
    prompt = Prompt(problem=problem, token_ids=(1, 2), ordinal=ordinal)
    rng = np.random.default_rng(0)
    return [make_completion(prompt, index, [make_segment(rng, 3)], text=text) for index, text in enumerate(texts)]


def rewards_of(scored: list[ScoredCompletion]) -> list[float | None]:
    return [member.reward for member in scored]


def test_verdicts_do_not_depend_on_the_order_of_arrival_or_on_the_number_of_workers(
    make_scorer: Callable[..., Scorer],
) -> None:
    arriving = [*answers("a", "bbb", "cc", "a"), *answers("a", "dddd", "e", "bbb", ordinal=1)]
    expected = {}
    for num_workers in (1, 3):
        for order in (arriving, arriving[::-1], arriving[1::2] + arriving[::2]):
            scorer = make_scorer("length", "rank", "share_of_batch", num_workers=num_workers)
            scored = {
                (member.completion.prompt.ordinal, member.completion.sample_index): member.reward
                for member in scorer.score_all(iter(order), 4)
            }
            expected = expected or scored
            assert scored == expected
    assert expected[0, 1] == 3 + 2 + 2 / 8  # length, rank in its own group, share of the whole batch
    assert expected[1, 0] == 1 + 0 + 3 / 8


def test_a_gate_multiplies_the_sum_of_the_others(make_scorer: Callable[..., Scorer], file: Path) -> None:
    scorer = make_scorer(Reward(fn=f"{file}:length", weight=2.0), "strict", Reward(fn=f"{file}:is_short", gate=True))
    assert rewards_of(scorer.score_all(answers("ab", "four", "abcdef", reference="ab"), 3)) == [5.0, 0.0, 0.0]


def test_a_verdict_without_a_score_is_asked_for_once_more(
    make_scorer: Callable[..., Scorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS_AT_FIRST", str(tmp_path))
    scorer = make_scorer("fails_at_first")
    assert rewards_of(scorer.score_all(answers("a", "b"), 2)) == [1.0, 1.0]
    stats = scorer.take_stats()
    assert (stats.num_retried, stats.num_verdicts) == (2, 2)


def test_an_answer_that_stays_without_a_score_has_no_reward(make_scorer: Callable[..., Scorer]) -> None:
    scored = make_scorer("length", "fails").score_all(answers("good", "bad"), 2)
    assert rewards_of(scored) == [5.0, None]
    assert scored[1].verdicts["fails"].status is Status.UNSCORED
    assert scored[1].verdicts["length"].score == 3.0


def test_the_audit_judges_passes_only_and_the_same_ones(make_scorer: Callable[..., Scorer], file: Path) -> None:
    texts = ["four", "five"] * 50
    audit = Audit(fn=f"{file}:never", share=0.5)
    first, second = (make_scorer("strict", audit=audit).score_all(answers(*texts), 100) for _ in range(2))
    audited = [member.completion.sample_index for member in first if member.audit is not None]
    assert audited == [member.completion.sample_index for member in second if member.audit is not None]
    assert 10 < len(audited) < 40  # of 50 passes
    assert all(index % 2 == 0 for index in audited)
    assert {member.audit.status for member in first if member.audit} == {Status.WRONG}
    assert rewards_of(first) == [1.0, 0.0] * 50  # an alarm, not a reward


def test_stats_are_of_what_was_scored_since_the_last_call(make_scorer: Callable[..., Scorer]) -> None:
    scorer = make_scorer("length")
    scorer.score_all(answers("a", "b", "c"), 3)
    stats = scorer.take_stats()
    assert stats.num_verdicts == 3
    assert stats.seconds_waiting > 0
    assert stats.metrics()["verifier/per_second"] > 0
    assert scorer.take_stats().num_verdicts == 0


def test_a_function_that_cannot_be_loaded_is_the_recipes_mistake(file: Path) -> None:
    with pytest.raises(RecipeError, match=r"rewards.0.fn.*has no function 'nowhere'"):
        Scorer([Reward(fn=f"{file}:nowhere")])
    with pytest.raises(RecipeError, match=r"rewards.0.args.*args.scale: it takes no such argument"):
        Scorer([Reward(fn=f"{file}:length", args={"scale": 2})])


def test_a_group_that_lost_answers_is_judged_by_what_arrived(make_scorer: Callable[..., Scorer]) -> None:
    assert rewards_of(make_scorer("rank").score_all(answers("b", "a"), 3)) == [1.0, 0.0]


def test_an_installed_package_offers_rewards_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judges.py").write_text("def lengthy(completion, problem): return float(len(completion))\n")
    info = tmp_path / "judges-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: judges\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[grpo.rewards]\nlengthy = judges:lengthy\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    scorer = Scorer([Reward(name="lengthy")])
    try:
        assert rewards_of(scorer.score_all(answers("abc"), 1)) == [3.0]
    finally:
        scorer.close()


def test_calls_to_a_service_wait_at_the_same_time(
    make_scorer: Callable[..., Scorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEETING_PLACE", str(tmp_path))
    scored = make_scorer("waits_for_three_others", concurrency=4).score_all(answers("a", "b", "c", "d"), 4)
    assert rewards_of(scored) == [1.0] * 4


def test_a_function_that_declines_a_whole_problem_does_not_apply_to_it(make_scorer: Callable[..., Scorer]) -> None:
    product = Problem(problem_id="p/9", question="2 * 2?", reference="four")
    prompt = Prompt(problem=product, token_ids=(1, 2), ordinal=9)
    rng = np.random.default_rng(0)
    others = [make_completion(prompt, index, [make_segment(rng, 3)], text="four") for index in range(2)]
    scored = make_scorer("strict", "only_of_sums").score_all([*answers("four", "ab"), *others], 2)
    assert rewards_of(scored) == [1.0 + 4.0, 0.0 + 2.0, 1.0, 1.0]
    assert rewards_of(make_scorer("only_of_sums").score_all(others, 2)) == [None, None]


def test_a_gate_is_no_factor_beyond_zero_and_one_and_a_weight_of_zero_only_logs(
    make_scorer: Callable[..., Scorer], file: Path
) -> None:
    scored = make_scorer("below_zero", Reward(fn=f"{file}:below_zero", name="gate", gate=True)).score_all(
        answers("a"), 1
    )
    assert rewards_of(scored) == [0.0]
    scored = make_scorer("length", Reward(fn=f"{file}:fails", weight=0.0)).score_all(answers("ok", "bad"), 2)
    assert rewards_of(scored) == [2.0, 3.0]
    assert scored[1].verdicts["fails"].status is Status.UNSCORED
