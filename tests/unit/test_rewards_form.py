"""Format, length and the random control."""

import pytest

from rewards import FormatVerifier, LengthVerifier, Question, RandomVerifier, Status

QUESTION = Question(text="2 + 2?", reference="4")
GOOD = "<think>2+2 is 4</think>\n<answer>4</answer>\n"


@pytest.mark.parametrize(
    ("text", "strict", "soft", "counted"),
    [
        (GOOD, 1.0, 1.0, 1.0),
        ("So: " + GOOD, 0.0, 1.0, 1.0),
        (GOOD + "bye", 0.0, 1.0, 1.0),
        ("<think>a</think> then <answer>4</answer>", 0.0, 1.0, 1.0),
        (GOOD + GOOD, 0.0, 1.0, 0.0),
        ("<think></think><answer>4</answer>", 0.0, 0.0, 1.0),
        ("<think>a</think><answer> </answer>", 0.0, 0.0, 1.0),
        ("<answer>4</answer><think>a</think>", 0.0, 0.0, 1.0),
        ("<think>a<think>b</think><answer>4</answer>", 0.0, 1.0, 0.75),
        ("<think>a</think>", 0.0, 0.0, 0.5),
        ("4", 0.0, 0.0, 0.0),
        ("", 0.0, 0.0, 0.0),
    ],
)
def test_format_modes(text: str, strict: float, soft: float, counted: float) -> None:
    scores = [FormatVerifier(mode=mode).verify(text, QUESTION).score for mode in ("strict", "soft", "tag_count")]
    assert scores == [strict, soft, counted]


def test_a_template_that_opens_the_reasoning_is_counted_in() -> None:
    opened = FormatVerifier(opened=True)
    assert opened.verify("2+2 is 4</think> <answer>4</answer>", QUESTION).score == 1.0
    assert opened.verify(GOOD, QUESTION).score == 0.0
    assert FormatVerifier().verify("2+2 is 4</think> <answer>4</answer>", QUESTION).score == 0.0


@pytest.mark.parametrize(("length", "score"), [(0, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0), (5000, -1.0)])
def test_length_penalty_follows_dapo(length: int, score: float) -> None:
    verdict = LengthVerifier(max_characters=100, soft_characters=20).verify("x" * length, QUESTION)
    assert verdict.score == score
    assert str(verdict.score) != "-0.0"
    assert verdict.status is (Status.CORRECT if score == 0 else Status.WRONG)


def test_random_repeats_itself_and_knows_nothing_of_the_answer() -> None:
    texts = [f"<answer>{i}</answer>" for i in range(4000)]
    first, again, other = RandomVerifier(seed=1), RandomVerifier(seed=1), RandomVerifier(seed=2)
    scores = [first.verify(text, QUESTION).score for text in texts]
    assert scores == [again.verify(text, QUESTION).score for text in texts]
    assert scores != [other.verify(text, QUESTION).score for text in texts]
    assert 0.46 < sum(filter(None, scores)) / len(texts) < 0.54


def test_random_gives_the_same_text_another_score_under_other_questions() -> None:
    scores = {RandomVerifier().verify("4", Question(text=f"{i}", reference="4")).score for i in range(40)}
    assert scores == {0.0, 1.0}


@pytest.mark.parametrize(("share", "score"), [(0.0, 0.0), (1, 1.0)])
def test_random_share_at_its_ends(share: float, score: float) -> None:
    assert {RandomVerifier(share=share).verify(str(i), QUESTION).score for i in range(50)} == {score}
