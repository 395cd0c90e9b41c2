"""The random control."""

import pytest

from rewards import Question, RandomVerifier

QUESTION = Question(text="2 + 2?", reference="4")


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
