"""Every key in words: its type, its default and a sentence; the same as JSON Schema, for editors.

The sentences are the comments behind the fields of ``schema.py``, where whoever changes a key sees them.
"""

import ast
import inspect
import io
import json
import tokenize
import types
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from grpo.recipe import schema
from grpo.recipe.keys import fields_below
from grpo.recipe.schema import Recipe

WORDS: dict[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false", dict: "mapping"}
BOUNDS: dict[type, tuple[str, str]] = {
    Ge: ("ge", "at least"),
    Gt: ("gt", "above"),
    Le: ("le", "at most"),
    Lt: ("lt", "below"),
}
REQUIRED = "required"
SECTIONS = {  # those that are set whole, or that others are in: whether a recipe needs them
    **dict.fromkeys(("data", "data.train", "rewards", "rollout", "learner"), True),
    "data.held_out": False,
}
SOURCES = ("data.train", "data.held_out")


class Key(NamedTuple):
    """One key; ``N`` in it stands for a place in a list."""

    key: str
    type: str
    default: str
    sentence: str


def describe_keys() -> list[Key]:
    """Every key that a recipe may hold, in the schema's order.

    >>> describe_keys()[1]
    Key(key='seed', type='whole number, at least 0', default='0', sentence='of data, sampling and weights')
    """
    return [
        Key(
            key=key,
            type=type_text(field.annotation, field.metadata),
            default=REQUIRED if field.is_required() else json.dumps(field.default),
            sentence=sentences_of(model)[key.rpartition(".")[2]],
        )
        for key, model, field in fields_below(Recipe)
    ]


def is_required(key: str) -> bool:
    """Whether a recipe without the key, or without a section on the way to it that is required, is refused.

    >>> is_required("model"), is_required("data.train.path"), is_required("data.held_out.path"), is_required("seed")
    (True, True, True, False)
    """
    return SECTIONS[key] if key in SECTIONS else _field_of(key).is_required()


def default_of(key: str) -> Any:
    """The default of a key that has one; of a list of sections, the empty list, and of other sections, none."""
    return [] if key == "rewards" else None if key in SECTIONS else _field_of(key).default


def keys_document() -> str:
    """``docs/keys.md``: every key in a table, a section of the recipe under a heading."""
    lines = ["# Keys", "", "Every key that a recipe may hold. Made by `make docs` from `grpo/recipe/schema.py`."]
    section = None
    for key in describe_keys():
        place = key.key.rpartition(".")[0]
        if place != section:
            section = place
            lines += ["", f"## `{place}`" if place else "## The recipe itself", ""]
            lines += [f"A source, or a list of them: `{place}.0.path` is the first one's.", ""] * (place in SOURCES)
            lines += ["| key | type | default | |", "|---|---|---|---|"]
        kind = key.type.replace("|", "\\|")
        sentence = key.sentence.replace("|", "\\|").replace("<", "&lt;")
        lines.append(
            f"| `{key.key}` | {kind} | {key.default if key.default == REQUIRED else f'`{key.default}`'} | {sentence} |"
        )
    return "\n".join([*lines, "", *EDITOR, ""])


EDITOR = (
    "## In an editor",
    "",
    "`grpo schema --output recipe.schema.json` writes this as JSON Schema. An editor with a YAML language server",
    "completes keys, shows their sentences and marks mistakes in a recipe that opens with the line",
    "",
    "    # yaml-language-server: $schema=recipe.schema.json",
    "",
    "where the path is relative to the recipe. What keys may not be combined with, only `grpo check` knows.",
)


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe: types, enumerations, bounds, defaults, a description of each key.

    What contradicts what is beyond it: ``load_recipe`` says that.
    """
    whole: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
    models: list[type[BaseModel]] = [Recipe, *_sections()]
    for model in models:
        part = whole if model is Recipe else whole["$defs"][model.__name__]
        for name, sentence in sentences_of(model).items():
            if sentence and name in part["properties"]:
                part["properties"][name].setdefault("description", sentence)
    section = whole["properties"]["algorithm"]
    presets = list(get_args(schema.Preset))
    reference = {"$ref": section.pop("$ref")}
    section["anyOf"] = [{"enum": presets, "description": "a preset's name: see docs/algorithms.md"}, reference]
    return whole


@cache
def sentences_of(model: type[BaseModel]) -> dict[str, str]:
    """The comment behind each field of a section of ``schema.py``, by the field's name; empty where there is none.

    Fields that a section has from another, as ``TrainSource`` from ``DataSource``, bring theirs.
    """
    inherited = [sentences_of(base) for base in model.__bases__ if issubclass(base, schema.Section)]
    source = inspect.getsource(model)
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.line.lstrip().startswith("#")
    }
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    own = {
        node.target.id: " ".join(comments[line] for line in _lines_of(node) if line in comments)
        for node in body.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return {name: sentence for each in (*inherited, own) for name, sentence in each.items()}


def type_text(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """An annotation in words.

    >>> type_text(schema.Share), type_text(Literal["a", "b"] | None), type_text(list[str])
    ('number, above 0, at most 1', 'a | b', 'list of text')
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return type_text(args[0], _unpacked(annotation.__metadata__))
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(arg, metadata) for arg in args if arg is not type(None)))
    if origin is list:
        return f"list of {type_text(args[0])}"
    bounds = [
        f"{words} {getattr(bound, name):g}"
        for bound in _unpacked(metadata)
        for kind, (name, words) in BOUNDS.items()
        if isinstance(bound, kind)
    ]
    return ", ".join([WORDS[origin or annotation], *bounds])


def _unpacked(metadata: Any) -> list[Any]:
    """Bounds, also those within a ``Field(...)``."""
    return [bound for each in metadata for bound in (each.metadata if isinstance(each, FieldInfo) else [each])]


def _lines_of(node: ast.AnnAssign) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


@cache
def _by_key() -> dict[str, FieldInfo]:
    return {key: field for key, _, field in fields_below(Recipe)}


def _field_of(key: str) -> FieldInfo:
    return _by_key()[key]


def _sections() -> list[type[BaseModel]]:
    return list(dict.fromkeys(model for _, model, _ in fields_below(Recipe) if model is not Recipe)) + [schema.Data]
