"""A recipe from a YAML file and dotted overrides; every mistake names its key or its line."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from grpo.errors import RecipeError, UserError, as_written
from grpo.recipe.checks import check_together
from grpo.recipe.examples import what_to_write
from grpo.recipe.keys import RENAMED, may_be_list, nearest_key, section_of
from grpo.recipe.presets import as_section, lay_under
from grpo.recipe.schema import ONE_OR_MANY, Recipe
from grpo.recipe.values import refuse_odd_values
from grpo.recipe.without_effect import without_idle_keys
from grpo.recipe.yaml_text import NotYamlError, parse_yaml

SHIPPED = Path(__file__).parents[2] / "recipes"

Loc = tuple[int | str, ...]
Overrides = Sequence[str] | Mapping[str, object]  # key.path=value texts, or values by key.path


def load_recipe(path: Path | str, overrides: Overrides = ()) -> Recipe:
    """Read a recipe, lay ``key.path=value`` overrides (or a mapping of values by key path) over it, check it whole.

    Raises:
        UserError: the file is missing or is no YAML; the message names file and line.
        RecipeError: a key is unknown, given twice, of the wrong type, or contradicts another.
    """
    path = Path(path)
    return parse_recipe(_read(path), overrides, source=str(path))


def parse_recipe(text: str, overrides: Overrides = (), *, source: str = "recipe") -> Recipe:
    """As ``load_recipe``, from text.

    >>> parse_recipe("model: tiny-base", ["rollout.num_generation=8"])
    Traceback (most recent call last):
    grpo.errors.RecipeError: recipe key 'rollout.num_generation' = 8: there is no such key. The nearest is \
'rollout.num_generations'.
    """
    tree = parse_yaml(text, source)
    if not isinstance(tree, dict):
        found = "is empty" if tree is None else "holds a list" if isinstance(tree, list) else "holds one value"
        raise UserError(f"{source} {found}: a recipe is a mapping of keys. Open it with `model: ...`")
    return _build(tree, overrides)


def with_overrides(recipe: Recipe, overrides: Overrides) -> Recipe:
    """The recipe with ``key.path=value`` overrides laid over it, checked whole again.

    Raises:
        RecipeError: as ``load_recipe``.
    """
    return _build(recipe.model_dump(), overrides)


def _build(tree: dict[Any, Any], overrides: Overrides) -> Recipe:
    tree["algorithm"] = as_section(tree.get("algorithm", {}))
    values = _values(overrides)
    for key, value in sorted(values, key=_depth):
        _apply_override(tree, key, value)
        tree["algorithm"] = as_section(tree["algorithm"])
    refuse_odd_values(tree)
    lay_under(tree)
    _refuse_unknown_keys(tree, Recipe, ())
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise _as_recipe_error(error, tree) from error
    algorithm = without_idle_keys(recipe.algorithm, {key for key, _ in values})
    recipe = recipe.model_copy(update={"algorithm": algorithm})
    check_together(recipe)
    return recipe


def _depth(override: tuple[str, object]) -> int:
    """A whole section is set before the keys in it, in whatever order they were given."""
    return override[0].count(".")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        shipped = ", ".join(f"recipes/{file.name}" for file in sorted(SHIPPED.glob("*.yaml")))
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], n=1)
        hint = f"Did you mean {path.parent / near[0]}?" if near else f"Shipped recipes: {shipped or 'none found'}"
        raise UserError(f"no recipe at {path}. {hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder. Name a recipe file in it.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}). Name a YAML file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Name a recipe that you may read.") from None
    except ValueError:  # of a path that holds a null character
        raise UserError(f"{str(path)!r} is no path of a file. Name a recipe file.") from None


def _values(overrides: Overrides) -> list[tuple[str, Any]]:
    """Keys and values. Those of a mapping are Python's own: copied, paths as text, tuples as lists."""
    if isinstance(overrides, Mapping):
        return [(str(key), _plain(value)) for key, value in overrides.items()]
    if isinstance(overrides, str):
        raise RecipeError(overrides, "", "is one text, not several overrides", f"Write [{overrides!r}], or a mapping.")
    return [_parsed(override) for override in overrides]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _parsed(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(
            f"'{override}' is no override of a recipe's key. Write key.path=value, as in learner.learning_rate=1e-4."
        )
    try:
        return key, parse_yaml(text, "the command")
    except NotYamlError as error:
        fix = f"Close every bracket and quote, and put the whole in quotes for the shell: '{key}=...'."
        raise RecipeError(key, text, f"is no YAML value: {error.problem}", fix) from error


def _apply_override(tree: dict[Any, Any], key: str, value: Any) -> None:
    """Set one value in the tree; sections on the way are made where absent."""
    *path, last = key.split(".")
    node: Any = tree
    for depth, part in enumerate(path):
        node = _step_into(node, part, ".".join(path[: depth + 1]), key, value)
    if isinstance(node, list):
        node[_list_index(node, last, ".".join(path), key, value)] = value
    else:
        node[last] = value


def _step_into(node: Any, part: str, path: str, key: str, value: object) -> Any:
    if isinstance(node, list):
        child = node[_list_index(node, part, path.rpartition(".")[0], key, value)]
    else:
        if node.get(part) is None:
            node[part] = {}
        child = node[part]
    if not isinstance(child, dict | list):
        if nearest_key(key):
            raise _unknown_key(key, value)
        allowed = f"'{path}' is one value, {as_written(child)}, and has no keys below it"
        raise RecipeError(key, value, allowed, f"Write {path}=... for the value itself.")
    return child


def _list_index(items: list[Any], part: str, path: str, key: str, value: object) -> int:
    if part in map(str, range(len(items))):
        return int(part)
    places = f"0 to {len(items) - 1}" if len(items) > 1 else "0 alone"
    allowed = f"'{path}' is a list of {len(items)}, so '{part}' must be a place in it, {places}"
    fix = f"Write {path}.0, say, or give the whole list."
    if not items:
        allowed, fix = f"'{path}' is an empty list and has no place '{part}'", "Give the whole list."
    raise RecipeError(key, value, allowed, fix)


def _refuse_unknown_keys(node: Any, model: type[BaseModel], loc: Loc) -> None:
    """Walk the tree along the schema; a value of the wrong kind is left for validation to name."""
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        here = (*loc, name)
        if name not in model.model_fields:
            raise _unknown_key(_dotted(here), value)
        annotation = model.model_fields[name].annotation
        section, _ = section_of(annotation)
        if section is None:
            continue
        children = enumerate(value) if may_be_list(annotation) and isinstance(value, list) else [(None, value)]
        for index, child in children:
            _refuse_unknown_keys(child, section, here if index is None else (*here, index))


def _unknown_key(key: str, value: object) -> RecipeError:
    if key in RENAMED:
        return RecipeError(key, value, "there is no such key any more", RENAMED[key])
    nearest = nearest_key(key)
    every = "Nothing is like it; docs/keys.md and `grpo schema` have every key."
    return RecipeError(key, value, "there is no such key", f"The nearest is '{nearest}'." if nearest else every)


def _as_recipe_error(error: ValidationError, tree: Mapping[str, Any]) -> RecipeError:
    """The first complaint in this project's words."""
    first = error.errors()[0]
    loc = tuple(part for part in first["loc"] if part not in ONE_OR_MANY)
    loc = _loc_in(tree, loc) if first["type"] != "missing" else loc
    key = _dotted(loc)
    if first["type"] == "missing":
        return RecipeError(key, None, "is required", f"Add {key} to the recipe, or {key}=... to the command.")
    value = first["input"]
    allowed = _allowed(first["type"], first.get("ctx", {}))
    example = what_to_write(loc)
    if isinstance(value, str) and first["type"] in ("int_type", "float_type", "bool_type"):
        example = "Write it without quotes." if _is_scalar_text(value, first["type"]) else example
    return RecipeError(key, value, allowed, example)


def _allowed(kind: str, context: Mapping[str, Any]) -> str:
    bounds = {
        "greater_than_equal": ("ge", "must be at least"),
        "greater_than": ("gt", "must be above"),
        "less_than_equal": ("le", "must be at most"),
        "less_than": ("lt", "must be below"),
        "literal_error": ("expected", "must be one of"),
        "too_short": ("min_length", "must be a list of at least"),
    }
    kinds = {
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "string_type": "must be a text",
        "string_pattern_mismatch": "must be of the form HH:MM:SS or D-HH:MM:SS",
        "bool_type": "must be true or false",
        "list_type": "must be a list",
        "dict_type": "must be a mapping of names to values",
        "invalid-json-value": "must be a text, a number, true, false, null, or a list or mapping of such",
        "model_type": "must be a section with keys of its own",
    }
    if kind in bounds:
        name, words = bounds[kind]
        return f"{words} {context[name]}"
    return kinds.get(kind, f"is not allowed here ({kind})")


def _loc_in(tree: Any, loc: Loc) -> Loc:
    """The part of pydantic's location that stands in the recipe; what follows names members of a union."""
    node = tree
    for depth, part in enumerate(loc):
        inside = (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int))
        if not inside:
            return loc[:depth]
        node = node[part]
    return loc


def _is_scalar_text(text: str, kind: str) -> bool:
    wanted = {"int_type": (int,), "float_type": (int, float), "bool_type": (bool,)}[kind]
    try:
        return type(parse_yaml(text, "value")) in wanted
    except UserError:
        return False


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc))
