"""Where the answer stands in a completion."""

import time

import pytest

from rewards.extract import (
    EXTRACTORS,
    answer_tags,
    auto,
    boxed,
    extractor,
    final_answer,
    first_number,
    hashes,
    last_number,
)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("<think>2+2</think> <answer> 4 </answer>", "4"),
        ("<answer>3</answer> no, <answer>4</answer> done", "4"),
        ("<answer>3<answer>4</answer>", "4"),
        (r"<answer>\boxed{4}</answer>", "4"),
        (r"<answer>\boxed{4} or \boxed{5}</answer>", "4 or 5"),
        ("<answer></answer>", ""),
        ("<answer>4", None),
        ("4</answer>", None),
        ("</answer><answer>", None),
        ("", None),
    ],
)
def test_answer_tags_reads_the_last_closed_pair(text: str, span: str | None) -> None:
    assert answer_tags(text) == span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed{\frac{1}{2}} and so on", r"\frac{1}{2}"),
        (r"\boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", "1 , 2 and 3"),
        (r"\boxed{\boxed{9}}", r"\boxed{9}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{1} \boxed{2", "1"),
        (r"} \fbox {5}", "5"),
        (r"\boxed{}", ""),
        ("no box", None),
    ],
)
def test_boxed_balances_braces_and_joins_listed_boxes(text: str, span: str | None) -> None:
    assert boxed(text) == span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("The final answer is 3.5. I hope it is correct.", "3.5"),
        ("Final Answer: **73**", "73"),
        ("**Final Answer**\n\\boxed{004}", "004"),
        ("final answer is 1\nfinal answer is 2\n", "2"),
        ("final answer is", None),
        ("it is 3", None),
        ("So the answer is 12.", "12"),
    ],
)
def test_final_answer_reads_to_the_end_of_the_sentence(text: str, span: str | None) -> None:
    assert final_answer(text) == span


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("14-8+12=18.", "14", "18"),
        ("it is -8, not 8", "-8", "8"),
        ("7-8", "7", "8"),
        ("costs $1,234.50 now", "1,234.50", "1,234.50"),
        ("half is 1/2", "1/2", "1/2"),
        ("1,2,3", "1", "3"),
        (" 56\nQuestion: 7 * 8", "56", "8"),
        ("none", None, None),
    ],
)
def test_bare_numbers(text: str, first: str | None, last: str | None) -> None:
    assert (first_number(text), last_number(text)) == (first, last)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        (r"the final answer is 3, so \boxed{4}", "4"),
        ("<answer>4</answer> the final answer is 3", "4"),
        ("The final answer is 4.", "4"),
        ("2 + 2\n#### 4", "4"),
        ("it is 4", None),
    ],
)
def test_auto_prefers_what_is_marked_most_clearly(text: str, span: str | None) -> None:
    assert auto(text) == span


@pytest.mark.parametrize(
    ("name", "text", "span"),
    [
        ("boxed", r"\boxed 7 is it", "7"),
        ("boxed", r"$\boxed7$", "7"),
        ("boxed", r"\boxed{7}; \boxed{8}", "7 ; 8"),
        ("boxed", r"\boxed{7} / \boxed{8}", "7 / 8"),
        ("boxed", r"\boxed{7} \quad \boxed{8}", "7 ; 8"),
        ("boxed", r"\boxed{7} or \(\boxed{8}\)", "7 or 8"),
        ("boxed", r"\boxed{7} and not \boxed{8}", "7 and not 8"),
        ("boxed", r"\boxed{7} or maybe \boxed{8}", "7 or maybe 8"),
        ("boxed", "\\boxed{7}\n\n\\boxed{8}", "8"),
        ("answer_tags", r"<answer>\boxed{4}. Actually 5</answer>", r"\boxed{4}. Actually 5"),
        ("auto", r"<think>\boxed{5}?</think><answer>6</answer>", "6"),
        ("auto", r"\boxed{} so the final answer is 5", "5"),
        ("auto", "The answer is unclear. #### 7", "7"),
        ("final_answer", "The correct answer is (B).", "(B)"),
        ("final_answer", "So our answer is 7.", "7"),
        ("final_answer", "Answer: 7", "7"),
        ("final_answer", "The answer is 5! = 120.", "5! = 120"),
        ("final_answer", "The answer is 3. I hope the answer is correct.", "3"),
        ("last_number", "about 1.25e3", "1.25e3"),
        ("last_number", "so 1 1/4", "1 1/4"),
        ("last_number", r"is \frac{3}{4}", r"\frac{3}{4}"),
        ("last_number", "it costs 70 000", "70 000"),
    ],
)
def test_what_is_taken_back_or_doubted_is_not_cut_off(name: str, text: str, span: str) -> None:
    assert EXTRACTORS[name](text) == span


def test_hashes_reads_the_last_marked_line() -> None:
    assert hashes("#### 1\nwait\n#### 42 \nend") == "42"
    assert hashes("# 42") is None


def test_an_unknown_search_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'tags'.*answer_tags, boxed"):
        extractor("tags")


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize(
    "unit",
    [
        "<answer>",
        "</answer>",
        r"\boxed{",
        r"\boxed{1},",
        "{",
        "1",
        ",234",
        "1/",
        "final answer ",
        "####",
        " ",
        "-",
        "$",
    ],
)
def test_every_search_is_linear_on_floods(name: str, unit: str) -> None:
    flood = unit * (100_000 // len(unit)) + "x"
    started = time.process_time()
    EXTRACTORS[name](flood)
    assert time.process_time() - started < 1.0
