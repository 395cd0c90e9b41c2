"""The child process of ``json_schema``: parses JSON and holds it against a schema with the jsonschema package.

Run as ``python -m rewards.json_schema_child`` by ``rewards.pool``. A schema's ``pattern`` can take for ever on a text
made for it, and references can multiply the work without end, so nothing here runs anywhere else. No reference is
ever fetched: one that leads out of the schema, other than to JSON Schema's own, makes the schema unusable.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from rewards.worker import Message, serve

MAX_DEPTH = 64  # brackets within one another
PARSED_SCORE = 0.1  # of an answer that is JSON, whatever it holds
MEMBERS_SCORE = 0.8  # for all members of the top level: the last tenth is for a whole without fault
_MAX_ERRORS = 1_000


class NotJsonError(ValueError):
    """The text is no JSON value, or is deeper or larger in a number than is looked at."""


def main() -> None:
    try:
        import jsonschema  # noqa: F401 - the slow import, before the limits and the clock
    except ImportError as error:
        serve(handle, ready={"error": f"{error}. Fix: pip install jsonschema"})
        return
    serve(handle, ready={"ready": True})


def handle(request: Message) -> Message:
    """``outcome``: valid, invalid, not_json, bad_schema; ``score``: the graded one; ``reason``: in one line."""
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        value = parse(request["text"])
    except NotJsonError as error:
        return {"outcome": "not_json", "reason": str(error), "score": 0.0}
    try:
        return validate(value, request["schema"])
    except SchemaError as error:
        return {"outcome": "bad_schema", "reason": error.message}
    except Unresolvable as error:
        return {"outcome": "bad_schema", "reason": f"{error}: references outside the schema are never fetched"}
    except RecursionError:
        return {"outcome": "bad_schema", "reason": "its references lead in a circle"}


def parse(text: str) -> object:
    """The JSON value that is the whole text, by RFC 8259 alone: no NaN, no member twice, no number beyond a float.

    >>> parse('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}

    Raises:
        NotJsonError: it is none.
    """
    if _depth(text) > MAX_DEPTH:
        raise NotJsonError(f"more than {MAX_DEPTH} brackets within one another")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except ValueError as error:
        raise NotJsonError(f"no JSON: {error}") from error


def validate(value: object, schema: object) -> Message:
    """Hold the value against the schema, and grade it by the members of the top level that are as they should be."""
    import jsonschema
    from jsonschema_specifications import REGISTRY

    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    kind.check_schema(schema)
    faults = _faults(kind(schema, registry=REGISTRY), value)
    first = next(faults, None)
    if first is None:
        return {"outcome": "valid", "reason": "", "score": 1.0}
    wrong = {first[0], *(member for member, _ in faults)}
    return {
        "outcome": "invalid",
        "reason": first[1][:300],
        "score": PARSED_SCORE + _members_score(schema, value, wrong),
    }


def _faults(validator: Any, value: object) -> Iterator[tuple[str | None, str]]:
    """Each fault's member of the top level (None: the whole value) and message."""
    for number, error in enumerate(validator.iter_errors(value)):
        if number == _MAX_ERRORS:
            return
        member = error.absolute_path[0] if error.absolute_path else None
        yield (member if isinstance(member, str) else None), error.message


def _members_score(schema: object, value: object, wrong: set[str | None]) -> float:
    if not isinstance(schema, Mapping) or not isinstance(value, dict):
        return 0.0
    members = {*schema.get("properties", {}), *schema.get("required", ())}
    required = set(schema.get("required", ()))
    asked = [name for name in members if name in required or name in value]
    if not asked:
        return 0.0
    return MEMBERS_SCORE * sum(name in value and name not in wrong for name in asked) / len(asked)


def _depth(text: str) -> int:
    """Brackets within one another, outside strings."""
    depth = deepest = 0
    quoted = escaped = False
    for letter in text:
        if quoted:
            quoted = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise NotJsonError("a member stands twice in one object")
    return members


def _constant(name: str) -> float:
    raise NotJsonError(f"{name} is no JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise NotJsonError("a number is too large")
    return value


if __name__ == "__main__":
    main()
