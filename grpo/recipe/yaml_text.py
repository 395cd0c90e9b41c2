"""YAML as recipes use it: the core schema of YAML 1.2, and no key given twice.

``off`` is a text, ``1e-4`` is a number and ``010`` is ten, where YAML 1.1 (PyYAML's) reads false, a text and
eight. There are no merge keys: a recipe inherits from nothing.
"""

import re
from typing import Any

import yaml

from grpo.errors import RecipeError, UserError
from grpo.recipe.schema import Recipe

DEEPEST = 100  # values within values
LONGEST_NUMBER = 1000  # digits; Python itself refuses 4,301


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
        return _load(text, source)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise NotYamlError(source, line, *_reason_of(error)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise NotYamlError(source, line, f"the character U+{code:04X} has no place in it", "Remove it.") from error
    except RecursionError:
        raise NotYamlError(source, None, "its values are nested too deep", "Mend the brackets.") from None


class NotYamlError(UserError):
    """A text is no YAML.

    ``problem`` says why; ``line`` counts from 1, None where it is no single line's fault.
    """

    def __init__(self, source: str, line: int | None, problem: str, fix: str) -> None:
        place = source if line is None else f"{source}, line {line}"
        super().__init__(f"{place}: not valid YAML: {problem}. {fix}")
        self.problem = problem


def _load(text: str, source: str) -> Any:
    loader = _Loader(text)
    loader.name = source
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _reason_of(error: yaml.MarkedYAMLError) -> tuple[str, str]:
    """What is wrong, in PyYAML's words but for the commonest, and what to do."""
    problem = str(error.problem)
    if r"'\t'" in problem:
        return "a tab stands where a value or the indentation begins", "Indent with spaces."
    if problem == "but found another document":
        return "a second document begins here", "Keep one: remove the line `---` and what follows."
    if "constructor for the tag" in problem:
        return f"the tag {problem.rpartition('tag ')[2]} stands for no value that a recipe holds", "Remove the tag."
    opened = error.context_mark.line + 1 if error.context_mark else 0
    if "<stream end>" in problem and opened:
        problem += f", {error.context} that line {opened} opens"
    return problem, "Mend that line."


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars, no repeated keys, and no aliases.

    An alias can name what holds it, or stand for itself a billion times over.
    """

    _depth = 0  # of the node being read: brackets by the thousand take PyYAML the square of their number
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # none of YAML 1.1's

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            problem = f"the alias *{event.anchor} stands for another value, and a recipe has none"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"values nested more than {DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = _text_of(key_node), key_node.start_mark.line + 1
            if key in first_line:
                lines = f"lines {first_line[key]} and {line}" if first_line[key] != line else f"line {line}"
                value = self.construct_object(value_node, deep=True)
                raise RecipeError(key, value, f"is given twice in {self.name}, on {lines}", "Keep one.")
            first_line[key] = line
        return super().construct_mapping(node, deep=deep)


def _text_of(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else f"({node.start_mark.index})"


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something other than text."""


def _decimal(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) > LONGEST_NUMBER:
        problem = f"a whole number of more than {LONGEST_NUMBER} digits"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
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
