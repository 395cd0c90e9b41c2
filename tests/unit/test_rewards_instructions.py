"""IFEval's 25 instructions: one answer that follows and one that does not for each reading, and the columns."""

import re

import pytest

from rewards import InstructionsVerifier, Question, Status
from rewards.instruction_checks import CHECKS
from rewards.sentences import num_sentences

AT_LEAST, LESS = "at least", "less than"
CASES: list[tuple[str, dict[str, object], str, str]] = [  # id, arguments, an answer that follows it, one that does not
    ("keywords:existence", {"keywords": ["Cat", "dog"]}, "Cats and a DOG", "a dog"),
    ("keywords:existence", {"keywords": ["a.b"]}, "a.b", "axb"),
    ("keywords:frequency", {"keyword": "la", "frequency": 2, "relation": AT_LEAST}, "La la", "la"),
    ("keywords:frequency", {"keyword": "la", "frequency": 2, "relation": LESS}, "la", "la la"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "a Cat!"),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": AT_LEAST}, "Ee", "e"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": LESS}, "#a", "#a #b"),
    ("language:response_language", {"language": "de"}, "Das ist nicht so und es war gut.", "This is not the way."),
    ("language:response_language", {"language": "hi"}, "यह एक अच्छा दिन है", "This is the day."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": LESS}, "Dr. Lee came.", "One. Two."),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": AT_LEAST}, "a! b? c.", "It is 3.5. So."),
    ("length_constraints:number_words", {"num_words": 3, "relation": AT_LEAST}, "one two three", "one two"),
    ("length_constraints:number_words", {"num_words": 3.0, "relation": LESS}, "one two", "one two three"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a *** b", "a\n\nb"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First.\n\n'then, it",
        "First.\n\nThen\n\nmore",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] at [address]", "[name] [a\nb]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. more", "PS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S. more", "P.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b\n**bold**", "* a\n- b\n- c"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "my answer: yes"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* * *"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION 2\nb",
        "SECTION 1\na\nsection 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', '{"a": 1,}'),
    ("detectable_format:title", {}, "<<joy>>\nA poem", "<< >>\n<joy>"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:two_responses", {}, "******a******b******", "a******b******c"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, " say it. I did.", "I say it."),
    ("startend:end_checker", {"end_phrase": "Is that all?"}, 'Yes. "is that all?"', "Is that all? No"),
    ("startend:quotation", {}, ' "all of it" ', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": AT_LEAST},
        "A BIG cat",
        "Big A",
    ),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": LESS}, "NASA'd", "COVID-19 I"),
    ("change_case:english_capital", {}, "THE CAT AND THE DOG", "THE CAT and THE DOG"),
    ("change_case:english_lowercase", {}, "the cat and the dog", "le chat et le chien sont dans la maison"),
    ("punctuation:no_comma", {}, "one; two", "one, two"),
]


def question(ids: object, kwargs: object) -> Question:
    return Question(text="", reference="", columns={"instruction_id_list": ids, "kwargs": kwargs})


def test_all_25_instructions_are_here_and_have_a_case() -> None:
    assert len(CHECKS) == 25
    assert {name for name, *_ in CASES} == set(CHECKS)


@pytest.mark.parametrize(("name", "args", "good", "bad"), CASES)
def test_an_instruction_is_followed_or_not(name: str, args: dict[str, object], good: str, bad: str) -> None:
    asked = question([name], [{**args, "prompt_to_repeat": args.get("prompt_to_repeat"), "unused": None}])
    assert InstructionsVerifier().verify(good, asked).status is Status.CORRECT
    verdict = InstructionsVerifier().verify(bad, asked)
    assert (verdict.score, verdict.status, verdict.reason) == (0.0, Status.WRONG, f"not followed: {name}")


@pytest.mark.parametrize("name", CHECKS)
def test_no_instruction_is_followed_by_nothing(name: str) -> None:
    args = next(args for other, args, *_ in CASES if other == name)
    assert InstructionsVerifier(mode="loose").verify(" \n ", question([name], [args])).score == 0.0


def test_score_is_all_or_the_share() -> None:
    asked = question(["punctuation:no_comma", "startend:quotation"], [{}, None])
    assert InstructionsVerifier().verify("no comma", asked).score == 0.0
    assert InstructionsVerifier(score="share").verify("no comma", asked).score == 0.5
    assert InstructionsVerifier(score="share").verify('"no comma"', asked).score == 1.0


@pytest.mark.parametrize("text", ["Sure, here:\nno comma", "no comma\nBye, bye", "Sure,\nno comma\nBye,", "no comma"])
def test_loose_forgives_a_first_and_a_last_line(text: str) -> None:
    asked = question(["punctuation:no_comma"], [{}])
    assert InstructionsVerifier(mode="loose").verify(text, asked).score == 1.0
    assert InstructionsVerifier().verify(text, asked).score == float("," not in text)


def test_loose_forgives_asterisks_but_not_what_stays() -> None:
    asked = question(["startend:end_checker"], [{"end_phrase": "the end"}])
    assert InstructionsVerifier(mode="loose").verify("**The end**", asked).score == 1.0
    assert InstructionsVerifier().verify("**The end**", asked).score == 0.0
    assert InstructionsVerifier(mode="loose").verify("The end\nor\nnot", asked).score == 0.0


def test_reasoning_does_not_count_unless_asked_for() -> None:
    asked = question(["punctuation:no_comma", "startend:quotation"], [{}, {}])
    text = '<think>well, yes</think>\n<answer>"fine"</answer>'
    assert InstructionsVerifier().verify(text, asked).score == 1.0
    assert InstructionsVerifier(part="whole", score="share").verify(text, asked).score == 0.0


def test_columns_may_be_json() -> None:
    asked = question('["length_constraints:number_words"]', '[{"num_words": 2, "relation": "at least"}]')
    assert InstructionsVerifier().verify("two words", asked).score == 1.0


@pytest.mark.parametrize(
    ("ids", "kwargs", "reason"),
    [
        (None, [{}], "column 'instruction_id_list' = 'None'"),
        ([], [], "column 'instruction_id_list' is empty"),
        (["punctuation:no_comma"], [], "column 'kwargs' has 0 entries: 1"),
        (["punctuation:no_coma"], [{}], "did you mean 'punctuation:no_comma'"),
        ([7], [{}], "column 'instruction_id_list'"),
        (["punctuation:no_comma"], ["x"], "column 'kwargs'"),
        ("[", [{}], "column 'instruction_id_list' = '\\['"),
        (["length_constraints:number_words"], [{"relation": "at least"}], "num_words = None: a whole number"),
        (["length_constraints:number_words"], [{"num_words": 2, "relation": "over"}], "relation = 'over'.*less than"),
        (["keywords:existence"], [{"keywords": "cat"}], "keywords = 'cat': a list"),
        (["language:response_language"], [{"language": "xx"}], "language = 'xx'"),
        (["keywords:letter_frequency"], [{"letter": "ab"}], "letter = 'ab'"),
    ],
)
def test_a_wrong_column_is_named(ids: object, kwargs: object, reason: str) -> None:
    verdict = InstructionsVerifier().verify("text", question(ids, kwargs))
    assert verdict.status is Status.HARNESS_ERROR
    assert re.search(reason, verdict.reason)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("no stop", 1),
        ("One. Two! Three?", 3),
        ("it is all lower case. so what? nothing.", 3),
        ("Dr. J. Smith met Mr. Lee at 5 p.m. and left.", 1),
        ("We saw the U.S. They left.", 2),
        ("Pi is 3.14, e is 2.72.", 1),
        ("Wait... what?! No.", 3),
        ('He said "go." Then left.', 2),
        ("# Title\n\nOne sentence.", 1),
        ("今天很好。明天呢？", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert num_sentences(text) == count
