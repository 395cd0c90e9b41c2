"""Dotted keys as the text of a recipe: in the schema's order, a section a paragraph, with comments."""

from collections.abc import Iterator, Mapping
from typing import Any

from grpo.recipe import recipe_keys
from grpo.recipe.yaml_text import to_flow

Tree = dict[str, Any]


def recipe_text(values: Mapping[str, Any], comments: Mapping[str, str], *, source: str, title: str) -> str:
    """A recipe that holds ``values``, each with its comment, if it has one.

    Args:
        source: the file that it was translated from, and ``title`` whose it is; both stand on the first line.
    """
    tree: Tree = {}
    for key in sorted(values, key=_place):
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = values[key]
    lines = [f"# Translated from {source}, a configuration of {title}."]
    for name, value in tree.items():
        lines += [""] * (isinstance(value, dict) or name == "rewards")
        lines += _lines(name, name, value, comments, indent="")
    return "\n".join(lines) + "\n"


def _place(key: str) -> int:
    """Where a key stands in the schema; that of a section is its first key's."""
    order = dict.fromkeys(name.partition(".N")[0] for name in recipe_keys())
    return next(place for place, name in enumerate(order) if f"{name}.".startswith(f"{key}."))


def _lines(key: str, name: str, value: Any, comments: Mapping[str, str], *, indent: str) -> Iterator[str]:
    comment = f" # {comments[key]}" if key in comments else ""
    if isinstance(value, dict) and value and not key.endswith(".args"):
        yield f"{indent}{name}:{comment}"
        for last, each in value.items():
            yield from _lines(f"{key}.{last}", last, each, comments, indent=f"{indent}  ")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield f"{indent}{name}:{comment}"
        for place, each in enumerate(value):
            beside = f" # {comments[f'{key}.{place}']}" if f"{key}.{place}" in comments else ""
            yield f"{indent}  - {to_flow(each)}{beside}"
    else:
        yield f"{indent}{name}: {to_flow(value)}{comment}"
