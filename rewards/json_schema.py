"""Whether an answer is JSON that satisfies a schema (JSON Schema, draft 2020-12 unless ``$schema`` names another).

The schema stands in a column of the dataset, or in the recipe for all problems. A column of schemas that differ is
best kept as JSON text: Parquet gives structures of one column the same members, empty ones too. Checked with the
jsonschema package in a killable child process: a schema is trusted, but the text that its patterns run on is not.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Mapping

from rewards.arguments import check_choice, check_number
from rewards.base import PooledVerifier
from rewards.extract import answer_tags
from rewards.number import shorten
from rewards.pool import Pool
from rewards.verdict import Question, Status, Verdict, failed, unparsed
from rewards.worker import Limits, Message, WorkerDiedError, WorkerLimitError

MAX_CHARACTERS = 100_000  # of an answer that is parsed
MODES = ("strict", "graded")
_FENCE = re.compile(r"^[ \t]{0,8}```[ \t]{0,8}(?:json[0-9a-z]{0,3})?[ \t]{0,8}$", re.IGNORECASE | re.MULTILINE)
_CHILD = "rewards.json_schema_child"


def fenced(text: str) -> str | None:
    """The content of the last block between two lines of three backticks, of which the first may say json.

    >>> fenced("Here:\\n```json\\n[1]\\n```\\n")
    '[1]'
    """
    fences = list(_FENCE.finditer(text))
    if len(fences) < 2:
        return None
    opening, closing = fences[-2:]
    return text[opening.end() : closing.start()].strip()


def tagged(text: str) -> str | None:
    """What stands in the last answer tags, without a fence around it."""
    if answer_tags(text) is None:
        return None
    end = text.rfind("</answer>")
    inside = text[text.rfind("<answer>", 0, end) + len("<answer>") : end].strip()
    return fenced(inside) or inside


def whole(text: str) -> str | None:
    """The text itself."""
    return text.strip() or None


def anywhere(text: str) -> str | None:
    """The answer tags, else the last fenced block, else all that follows the reasoning."""
    return tagged(text) or fenced(text) or whole(text.rpartition("</think>")[2])


EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "auto": anywhere,
    "answer_tags": tagged,
    "fenced": fenced,
    "whole": whole,
}


class JsonSchemaVerifier(PooledVerifier):
    """1 where the extracted text is JSON and satisfies the schema, else 0.

    ``mode: graded`` gives 0.1 for JSON, and up to 0.8 more as the members that the schema asks for at its top level,
    and those it knows and the answer has, are each without fault; only a whole without fault scores 1.

    A text past the caps on size and depth, and one on which the schema's patterns run past the limit of CPU time,
    scores 0.

    >>> verifier = JsonSchemaVerifier(schema='{"type": "object", "required": ["age"]}')
    >>> verifier.verify('{"name": "Ada"}', Question(text="", reference="")).reason
    "'age' is a required property"
    >>> verifier.close()
    """

    name = "json_schema"

    def __init__(
        self,
        *,
        schema: str = "",
        column: str = "schema",
        extract: str = "auto",
        mode: str = "strict",
        cpu_s: float = 1.0,
        num_workers: int = 1,
    ) -> None:
        """``schema``: the schema of all problems, as JSON; empty: each problem's stands in ``column``.

        ``cpu_s``: CPU seconds for one answer; ``num_workers``: child processes.

        Raises:
            ValueError: the jsonschema package is missing, ``schema`` is no JSON object, or another argument is out
                of range.
        """
        if importlib.util.find_spec("jsonschema") is None:
            raise ValueError("verifier 'json_schema' needs the package jsonschema. Fix: pip install 'grpo[rewards]'")
        check_choice("extract", extract, EXTRACTORS)
        check_choice("mode", mode, MODES)
        check_number("cpu_s", cpu_s, 0.1, 600, of="of seconds")
        self.extract = extract
        self.mode = mode
        self.column = column
        self._schema = _read_schema("schema", schema) if schema else None
        self._find = EXTRACTORS[extract]
        self.pool: Pool = Pool(_CHILD, Limits(cpu_s=float(cpu_s), wall_s=30.0 + 15.0 * cpu_s), num_workers)

    def _judge(self, completion: str, question: Question) -> Verdict:
        try:
            schema = self._schema
            if schema is None:
                schema = _read_schema(f"column {self.column!r}", question.columns.get(self.column))
        except ValueError as error:
            return failed(str(error))
        text = self._find(completion)
        if text is None:
            return unparsed(f"no answer by {self.extract!r}")
        if len(text) > MAX_CHARACTERS:
            return unparsed(f"longer than {MAX_CHARACTERS} characters")
        try:
            reply = self.pool.ask_twice({"text": text, "schema": schema})
        except WorkerLimitError as error:
            return Verdict(score=0.0, status=Status.TIMEOUT, extracted=text, reason=f"{shorten(text)} {error}")
        except WorkerDiedError as error:
            return failed(str(error))
        return self._verdict(text, reply)

    def _verdict(self, text: str, reply: Message) -> Verdict:
        reason = str(reply["reason"])
        match reply["outcome"]:
            case "bad_schema":
                return failed(f"the schema: {reason}")
            case "not_json":
                return unparsed(reason)
            case "valid":
                return Verdict(score=1.0, status=Status.CORRECT, extracted=text)
        score = float(reply["score"]) if self.mode == "graded" else 0.0
        return Verdict(score=score, status=Status.WRONG, extracted=text, reason=reason)


def _read_schema(where: str, value: object) -> object:
    """The schema as JSON has it. Raises ValueError naming where it stands."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{where} = {shorten(str(value))}: a JSON schema is needed ({error})") from error
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} = {shorten(repr(value))}: a JSON schema, an object, is needed")
    try:
        return json.loads(json.dumps(dict(value)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} = {shorten(repr(value))}: JSON is needed ({error})") from error
