"""YAML as recipes use it: the core schema of YAML 1.2, and no key given twice.

``off`` is a text, ``1e-4`` is a number and ``010`` is ten, where YAML 1.1 (PyYAML's) reads false, a text and
eight. There are no merge keys: a recipe inherits from nothing.
"""

import re
from typing import Any

import yaml

from grpo.errors import RecipeError, UserError
from grpo.recipe.schema import Recipe


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe, every default written out; ``parse_recipe`` reads it back to an equal recipe."""
    text: str = yaml.dump(recipe.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def parse_yaml(text: str, source: str) -> Any:
    """The value that ``text`` holds; ``source`` names it in messages.

    Raises:
        UserError: it is not valid YAML; the message gives the line.
        RecipeError: a key is given twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{source}{line}: not valid YAML: {error.problem}. Mend that line.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from error


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars and no repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # none of YAML 1.1's

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in first_line:
                raise RecipeError(
                    key, value_node.value, f"is given twice, on lines {first_line[key]} and {line}", "Keep one."
                )
            first_line[key] = line
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something other than text."""


def _decimal(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
}
for _tag, (_pattern, _starts) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _starts)
_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def to_flow(value: object) -> str:
    """One value on one line, as it may stand behind a key.

    >>> to_flow({"name": "number", "args": {"extract": "hashes"}}), to_flow(0.5), to_flow("off")
    ('{name: number, args: {extract: hashes}}', '0.5', "'off'")
    """
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=True
    )
    return text.removesuffix("\n").removesuffix("\n...")
