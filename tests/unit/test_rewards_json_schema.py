"""JSON answers against a schema, in a child process that can be killed."""

import json
from collections.abc import Iterator

import pytest

from rewards import JsonSchemaVerifier, Question, Status
from rewards.json_schema_child import MAX_DEPTH

pytest.importorskip("jsonschema", reason="the extra `rewards` is not installed")

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
QUESTION = Question(text="", reference="", columns={"schema": PERSON})


@pytest.fixture(scope="module")
def verifier() -> Iterator[JsonSchemaVerifier]:
    verifier = JsonSchemaVerifier(cpu_s=1.0)
    yield verifier
    verifier.close()


@pytest.fixture(scope="module")
def graded() -> Iterator[JsonSchemaVerifier]:
    verifier = JsonSchemaVerifier(schema=json.dumps(PERSON), mode="graded")
    yield verifier
    verifier.close()


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada", "age": 36}',
        'Here it is:\n```json\n{"name": "Ada", "age": 36}\n```\nDone.',
        '```\n[]\n```\nor rather\n```JSON\n{"name": "Ada", "age": 36}\n```',
        '<think>{"no": 1}</think><answer>{"name": "Ada", "age": 36}</answer>',
        '<think>hm</think>\n<answer>\n```json\n{"name": "Ada", "age": 36}\n```\n</answer>',
        '<think>hm</think>\n{"name": "Ada", "age": 36}',
    ],
)
def test_the_answer_is_found_and_right(verifier: JsonSchemaVerifier, text: str) -> None:
    verdict = verifier.verify(text, QUESTION)
    assert (verdict.score, verdict.status) == (1.0, Status.CORRECT)
    assert json.loads(verdict.extracted or "") == {"name": "Ada", "age": 36}


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ('{"name": "Ada"}', Status.WRONG, "'age' is a required property"),
        ('{"name": "Ada", "age": -1}', Status.WRONG, "minimum"),
        ('{"name": "Ada", "age": true}', Status.WRONG, "integer"),
        ("[]", Status.WRONG, "object"),
        ('{"name": "Ada", "age": 36,}', Status.UNPARSED, "no JSON"),
        ('{"name": "Ada", "age": NaN}', Status.UNPARSED, "NaN"),
        ('{"name": "Ada", "age": 1e999}', Status.UNPARSED, "too large"),
        ('{"name": "Ada", "age": 1, "age": 36}', Status.UNPARSED, "twice"),
        ('{"name": "Ada", "age": ' + "9" * 5000 + "}", Status.UNPARSED, "digits"),
        ("[" * 60_000, Status.UNPARSED, f"more than {MAX_DEPTH}"),
        ('{"name": "' + "x" * 200_000, Status.UNPARSED, "longer than"),
        ("", Status.UNPARSED, "no answer"),
        ("\ud800", Status.UNPARSED, "no JSON"),
    ],
)
def test_what_is_wrong_is_named(verifier: JsonSchemaVerifier, text: str, status: Status, reason: str) -> None:
    verdict = verifier.verify(text, QUESTION)
    assert (verdict.score, verdict.status) == (0.0, status)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("no", 0.0),
        ("[]", 0.1),
        ('{"name": 1, "age": -1}', 0.1),
        ('{"name": "Ada"}', 0.5),
        ('{"name": "Ada", "age": -1}', 0.5),
        ('{"name": "Ada", "age": 36, "more": 1}', 0.9),
        ('{"name": "Ada", "age": 36}', 1.0),
    ],
)
def test_graded_scores_count_the_members(graded: JsonSchemaVerifier, text: str, score: float) -> None:
    assert graded.verify(text, Question(text="", reference="")).score == pytest.approx(score)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (None, "column 'schema' = 'None'"),
        ("{", "column 'schema' = '{'"),
        ([1], "a JSON schema, an object"),
        ({"const": {1, 2}}, "JSON is needed"),
        ({"type": "objekt"}, "the schema: 'objekt' is not valid"),
        ({"$ref": "http://localhost:9/x.json"}, "never fetched"),
        ({"$ref": "file:///etc/passwd"}, "never fetched"),
        ({"$ref": "#"}, "circle"),
    ],
)
def test_an_unusable_schema_says_nothing_of_the_answer(
    verifier: JsonSchemaVerifier, schema: object, reason: str
) -> None:
    verdict = verifier.verify("{}", Question(text="", reference="", columns={"schema": schema}))
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert reason in verdict.reason


def test_a_pattern_that_never_ends_is_ended_and_the_next_answer_is_judged(verifier: JsonSchemaVerifier) -> None:
    bomb = {"type": "string", "pattern": "^(a+)+$"}
    question = Question(text="", reference="", columns={"schema": bomb})
    verdict = verifier.verify('"' + "a" * 40 + '!"', question)
    assert (verdict.score, verdict.status) == (0.0, Status.TIMEOUT)
    assert verifier.verify('"aaa"', question).score == 1.0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"schema": "{"}, "schema = '{'"),
        ({"mode": "soft"}, "mode = 'soft'.*strict, graded"),
        ({"extract": "box"}, "extract = 'box'.*fenced"),
        ({"cpu_s": 0}, "cpu_s = 0"),
        ({"num_workers": 0}, "num_workers = 0"),
    ],
)
def test_a_mistaken_argument_is_named(args: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JsonSchemaVerifier(**args)  # type: ignore[arg-type]
