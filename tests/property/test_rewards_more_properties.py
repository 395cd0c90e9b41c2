"""Rewards of form: on any text they neither raise nor lose their range, and on a flood they end."""

import importlib.util
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewards import GroupLengthVerifier, Question, ReasoningGymVerifier, Verifier, make_verifier
from rewards.instruction_checks import CHECKS

ARGUMENTS: dict[str, object] = {
    **{"keywords": ["a"], "keyword": "a", "frequency": 1, "forbidden_words": ["b"], "letter": "a", "let_frequency": 1},
    **{"relation": "at least", "let_relation": "less than", "capital_relation": "less than", "capital_frequency": 2},
    **{
        "language": "en",
        "num_sentences": 2,
        "num_words": 2,
        "num_paragraphs": 2,
        "nth_paragraph": 1,
        "first_word": "a",
    },
    **{"num_placeholders": 1, "postscript_marker": "P.S.", "num_bullets": 1, "num_highlights": 1, "num_sections": 1},
    **{"section_spliter": "Section", "prompt_to_repeat": "a", "end_phrase": "a"},
}
QUESTION = Question(
    text="q",
    reference="24",
    columns={
        "schema": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]*$"}},
        "instruction_id_list": list(CHECKS),
        "kwargs": [ARGUMENTS] * len(CHECKS),
        "metadata": {"source_dataset": "countdown", "numbers": [2, 12], "target": 24},
    },
    completion_ids=range(50),
)
INLINE: list[tuple[str, dict[str, object]]] = [
    *(("format", {"mode": mode}) for mode in ("strict", "soft", "tag_count", "strict_lines", "tag_count_lines")),
    ("format", {"mode": "strict_lines", "opened": True}),
    ("length", {"max_tokens": 100, "soft_tokens": 60}),
    ("cosine_length", {"correct": "number", "extract": "last_number", "max_length": 100}),
    ("group_length", {"correct": "number", "extract": "last_number"}),
    ("repetition", {"ngram_size": 2}),
    ("repetition", {"ngram_size": 3, "language": "zh"}),
    ("language", {"language": "en"}),
    ("language", {"language": "ja", "part": "whole"}),
    ("instructions", {"mode": "strict", "score": "share"}),
    ("instructions", {"mode": "loose", "part": "whole"}),
]
PIECES = [
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "```",
        "```json\n",
        "$",
        "$$",
        "\\(",
        "\\[",
        "\\]",
        "`",
        "******",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        '"',
        ",",
        ":",
        "1",
        "24",
        "2*12",
        "-",
        "* ",
        "<<",
        ">>",
        "***",
        "\n\n",
        "\n",
        " ",
        ". ",
        "P.S.",
    ),
    *("the cat", "我们", "です", "мир", "١٢", "e\u0301", "\ud800", "\x00", "SECTION 1", "http://x"),
]
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
MEGABYTE = 1_000_000
FLOODS = [
    *(
        "a",
        "a ",
        "A. ",
        ".",
        ". ",
        "..x",
        "*",
        "* ",
        "[",
        "[a",
        "<<",
        "$",
        "$x",
        "`",
        "```",
        "\\(",
        "\\[a",
        "\n",
        "\n\n",
        " ",
    ),
    *(
        "<think>",
        "<a",
        "中",
        "か中",
        "1",
        "-\n",
        '"',
        "{",
        "p.",
        "https://",
        "'",
        "e\u0301",
        "SECTION 1",
        "\\a",
        "!?",
        "a.b.",
    ),
]


@given(text=TEXTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rewards_of_form_never_raise_and_repeat(text: str) -> None:
    for name, args in INLINE:
        verifier = make_verifier(name, **args)
        verdict, again = verifier.verify(text, QUESTION), verifier.verify(text, QUESTION)
        assert verdict.score is not None
        assert -1.0 <= verdict.score <= 1.0
        assert (verdict.score, verdict.status, verdict.reason) == (again.score, again.status, again.reason)


@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_scores_of_a_group_stay_in_range_and_the_shortest_right_one_is_best(texts: list[str]) -> None:
    verdicts = GroupLengthVerifier(correct="number", extract="last_number").verify_all(texts, [QUESTION] * len(texts))
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    assert len(scores) == len(texts)
    assert all(-0.5 <= score <= 0.5 for score in scores)
    assert all(scores[place] <= 0 for place, verdict in enumerate(verdicts) if verdict.status != "correct")


@pytest.fixture(scope="module")
def pooled() -> Iterator[list[Verifier]]:
    pytest.importorskip("jsonschema", reason="the extra `rewards` is not installed")
    verifiers: list[Verifier] = [make_verifier("json_schema", mode="graded")]
    if importlib.util.find_spec("reasoning_gym") is not None:
        verifiers.append(ReasoningGymVerifier(extract="whole"))
    yield verifiers
    for verifier in verifiers:
        verifier.close()


@given(text=TEXTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_verifiers_in_processes_never_raise(pooled: list[Verifier], text: str) -> None:
    for verifier in pooled:
        verdict = verifier.verify(text, QUESTION)
        assert verdict.score is not None, verdict.reason
        assert 0.0 <= verdict.score <= 1.0


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.parametrize("piece", FLOODS)
def test_a_megabyte_of_anything_is_judged_in_seconds(piece: str) -> None:
    """A search that looks again from every place would take hours; linear ones take well under a second."""
    flood = piece * (MEGABYTE // len(piece)) + "x"
    for name, args in INLINE:
        verifier = make_verifier(name, **args)
        assert _seconds(lambda verifier=verifier: verifier.verify(flood, QUESTION)) < 5.0, name
