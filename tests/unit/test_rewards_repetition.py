"""The repetition penalty against a count by hand."""

import pytest

from rewards import Question, RepetitionVerifier, Status
from rewards.repetition import repeated_share

QUESTION = Question(text="", reference="")


@pytest.mark.parametrize(
    ("text", "size", "share"),
    [
        ("", 2, 0.0),
        ("one", 2, 0.0),
        ("a b c d", 2, 0.0),
        ("a b a b a", 2, 0.5),
        ("a a a a a", 1, 0.8),
        ("a a a a a", 5, 0.0),
        ("the cat saw the cat", 2, 0.25),
        ("A a", 1, 0.5),
    ],
)
def test_penalty_is_the_share_of_ngrams_seen_before(text: str, size: int, share: float) -> None:
    verdict = RepetitionVerifier(ngram_size=size, max_penalty=-2.0).verify(text, QUESTION)
    assert verdict.score == pytest.approx(-2.0 * share)
    assert verdict.status is (Status.WRONG if share else Status.CORRECT)
    assert str(verdict.score) != "-0.0"


def test_a_language_without_spaces_is_counted_by_characters() -> None:
    text = "我们 我们我们"
    assert RepetitionVerifier(ngram_size=2, language="zh").verify(text, QUESTION).score == pytest.approx(-3 / 5)
    assert RepetitionVerifier(ngram_size=2, language="en").verify(text, QUESTION).score == 0.0


def test_the_share_agrees_with_a_set_of_ngrams() -> None:
    words = [str(number * number % 17) for number in range(400)]
    for size in (1, 2, 3, 7):
        ngrams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
        assert repeated_share(words, size) == pytest.approx(1 - len(set(ngrams)) / len(ngrams))
