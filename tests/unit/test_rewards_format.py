"""The format reward: its modes, and a template that opens the reasoning."""

import pytest

from rewards import FormatVerifier, Question

QUESTION = Question(text="2 + 2?", reference="4")
GOOD = "<think>2+2 is 4</think>\n<answer>4</answer>\n"
ON_LINES = "<think>\n2+2 is 4\n</think>\n<answer>\n4\n</answer>"


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


@pytest.mark.parametrize(
    ("text", "strict", "counted"),
    [
        (ON_LINES, 1.0, 1.0),
        (ON_LINES + "\n", 1.0, 1.0),
        (GOOD, 0.0, 0.0),
        ("so " + ON_LINES, 0.0, 1.0),
        (ON_LINES + ON_LINES, 0.0, 0.0),
        (ON_LINES.replace("</think>\n", "</think>\n\n"), 0.0, 1.0),
        ("<think>\na\n</think> <answer>4</answer>", 0.0, 0.25),
        ("<think>\n</think>\n<answer>\n4\n</answer>", 0.0, 1.0),
        ("<think>\na\n</think>\n<answer>\n4</answer>", 0.0, 0.75),
        ("", 0.0, 0.0),
    ],
)
def test_modes_that_count_line_breaks(text: str, strict: float, counted: float) -> None:
    scores = [FormatVerifier(mode=mode).verify(text, QUESTION).score for mode in ("strict_lines", "tag_count_lines")]
    assert scores == [strict, counted]


@pytest.mark.parametrize("rest", ["2+2\n</think>\n<answer>\n4\n</answer>", "\n2+2\n</think>\n<answer>\n4\n</answer>"])
def test_the_line_break_after_an_opened_tag_may_stand_in_the_prompt(rest: str) -> None:
    for mode in ("strict_lines", "tag_count_lines"):
        assert FormatVerifier(mode=mode, opened=True).verify(rest, QUESTION).score == 1.0
