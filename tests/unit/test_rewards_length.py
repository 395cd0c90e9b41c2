"""Length rewards: alone, by a judge of the answer, and relative to the group."""

import math

import pytest

from rewards import CosineLengthVerifier, GroupLengthVerifier, LengthVerifier, Question, Status, make_verifier

QUESTION = Question(text="2 + 2?", reference="4")


@pytest.mark.parametrize(("length", "score"), [(0, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0), (5000, -1.0)])
def test_length_penalty_follows_dapo(length: int, score: float) -> None:
    verdict = LengthVerifier(max_characters=100, soft_characters=20).verify("x" * length, QUESTION)
    assert verdict.score == score
    assert str(verdict.score) != "-0.0"
    assert verdict.status is (Status.CORRECT if score == 0 else Status.WRONG)


def test_length_penalty_in_tokens_counts_the_sampled_ones() -> None:
    verifier = LengthVerifier(max_tokens=100, soft_tokens=20)
    question = Question(text="", reference="", completion_ids=range(90))
    assert verifier.verify("x", question).score == -0.5
    unknown = verifier.verify("x", QUESTION)
    assert (unknown.score, unknown.status) == (None, Status.HARNESS_ERROR)
    assert "completion_ids" in unknown.reason


def _padded(answer: str, length: int) -> str:
    return answer + " " * (length - len(answer))


@pytest.mark.parametrize("length", [1, 13, 50, 77, 100])
def test_cosine_length_follows_the_paper(length: int) -> None:
    values = {"min_value_wrong": -10.0, "max_value_wrong": 0.0, "min_value_correct": 1.0, "max_value_correct": 2.0}
    verifier = CosineLengthVerifier(correct="number", extract="whole", max_length=100, **values)
    wave = (1 + math.cos(math.pi * length / 100)) / 2
    right = verifier.verify(_padded("4", length), QUESTION)
    wrong = verifier.verify(_padded("5", length), QUESTION)
    assert right.score == pytest.approx(1.0 + 1.0 * wave, abs=1e-12)
    assert wrong.score == pytest.approx(-10.0 * wave, abs=1e-12)
    assert (right.status, right.extracted, wrong.status) == (Status.CORRECT, "4", Status.WRONG)


def test_cosine_length_with_the_defaults_of_open_r1() -> None:
    verifier = CosineLengthVerifier(correct="number", extract="whole", max_length=1000)
    scores = [
        verifier.verify(_padded(answer, n), QUESTION).score for answer in "45" for n in (1, 500, 1000, 1500, 2000)
    ]
    expected = [1.0, 0.75, 0.5, 0.5, 0.5, -1.0, -0.75, -0.5, -0.5, -0.5]
    assert scores == pytest.approx(expected, abs=1e-5)


def test_reaching_the_maximum_can_cost_more_than_being_wrong() -> None:
    verifier = CosineLengthVerifier(correct="number", extract="whole", max_length=100, exceeded=-10)
    scores = [verifier.verify(_padded("4", n), QUESTION).score for n in (99, 100, 101)]
    assert scores[0] == pytest.approx(0.5, abs=1e-3)
    assert scores[1:] == [-10.0, -10.0]


def test_an_answer_that_the_judge_cannot_score_has_no_cosine() -> None:
    verifier = CosineLengthVerifier(correct="number", max_length=100)
    verdict = verifier.verify("<answer>4</answer>", Question(text="", reference="four"))
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert verifier.check_reference("four") is not None
    assert verifier.check_reference("4") is None


def test_group_length_follows_kimi() -> None:
    verifier = GroupLengthVerifier(correct="number", extract="whole")
    texts = [
        _padded("4", 10),
        _padded("4", 60),
        _padded("4", 110),
        _padded("5", 10),
        _padded("5", 110),
        _padded("?", 85),
    ]
    verdicts = verifier.verify_all(texts, [QUESTION] * len(texts))
    assert [verdict.score for verdict in verdicts] == [0.5, 0.0, -0.5, 0.0, -0.5, -0.25]
    assert [verdict.status for verdict in verdicts][:1] == [Status.CORRECT]
    assert verdicts[-1].status is Status.UNPARSED


def test_group_length_in_tokens_and_of_equals() -> None:
    verifier = GroupLengthVerifier(correct="number", extract="whole", unit="tokens")
    questions = [Question(text="", reference="4", completion_ids=range(n)) for n in (5, 15)]
    assert [verdict.score for verdict in verifier.verify_all(["4", "4"], questions)] == [0.5, -0.5]
    assert [verdict.score for verdict in verifier.verify_all(["4", "5"], [questions[0]] * 2)] == [0.0, 0.0]
    assert verifier.verify("4", questions[0]).score == 0.0
    unknown = verifier.verify_all(["4", "5"], [QUESTION] * 2)
    assert [verdict.status for verdict in unknown] == [Status.HARNESS_ERROR] * 2


def test_one_unscored_member_leaves_the_others_their_scores() -> None:
    verifier = GroupLengthVerifier(correct="number", extract="whole")
    odd = Question(text="", reference="four")
    verdicts = verifier.verify_all(["4", _padded("4", 9), _padded("4", 5)], [QUESTION, odd, QUESTION])
    assert [verdict.score for verdict in verdicts] == [0.5, None, 0.0]


def test_a_judge_with_processes_lends_them() -> None:
    verifier = make_verifier("cosine_length", correct="math_answer", extract="boxed", max_length=100, num_workers=1)
    assert verifier.placement == "pool"
    assert verifier.scope == "sample"
    assert verifier.verify(r"\boxed{\frac{1}{2}}", Question(text="", reference="0.5")).status is Status.CORRECT
    verifier.close()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"correct": "nummber"}, r"correct = 'nummber'.*did you mean 'number'"),
        ({"correct": "number", "extrct": "whole"}, r"correct = 'number'.*'extrct'.*did you mean 'extract'"),
        ({"correct": "group_length"}, r"correct = 'group_length'.*judges by itself"),
        ({"correct": 3}, r"correct = 3"),
        ({"correct": "number", "unit": "words"}, r"unit = 'words'.*characters, tokens"),
        ({"correct": "number", "max_length": 0}, r"max_length = 0"),
        ({"correct": "number", "min_value_wrong": 3.0}, r"min_value_wrong = 3\.0.*max_value_wrong"),
        ({"correct": "number", "exceeded": math.nan}, r"exceeded = nan"),
    ],
)
def test_a_mistaken_argument_is_named(args: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_verifier("cosine_length", **{"max_length": 10, **args})
