"""The schema seen as dotted keys: which there are, and which is meant."""

import difflib
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from grpo.recipe.schema import Recipe, Section


def recipe_keys() -> tuple[str, ...]:
    """Every dotted key of the schema; ``N`` stands for a place in a list."""
    return tuple(_keys_below(Recipe, ""))


def nearest_key(key: str) -> str:
    """The schema's key most like ``key``, wherever it stands: by whole path, or by last part.

    >>> nearest_key("learning_rat"), nearest_key("rollout.beta")
    ('learner.learning_rate', 'algorithm.beta')
    """

    def likeness(known: str) -> tuple[float, float]:
        whole = difflib.SequenceMatcher(None, key, known).ratio()
        last = difflib.SequenceMatcher(None, key.rpartition(".")[2], known.rpartition(".")[2]).ratio()
        return max(whole, last), whole

    return max(recipe_keys(), key=likeness)


def _keys_below(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section, is_list = section_of(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from _keys_below(section, f"{prefix}{name}.N." if is_list else f"{prefix}{name}.")


def section_of(annotation: Any) -> tuple[type[Section] | None, bool]:
    """The section that an annotation holds, plain, optional or in a list; and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        found = [section_of(arg) for arg in get_args(annotation)]
        return next((pair for pair in found if pair[0]), (None, False))
    if get_origin(annotation) is list:
        return section_of(get_args(annotation)[0])[0], True
    return None, False
