"""One line of an account, and the units that all lines share."""

from dataclasses import dataclass
from typing import Literal

from grpo.recipe import Recipe

GB = 1e9
ITEM_BYTES = {"float32": 4, "bfloat16": 2}

Phase = Literal["always", "sampling", "learning", "publishing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that a process holds, all the time or during one phase of a step."""

    name: str
    formula: str
    num_bytes: float
    phase: Phase = "always"


def longest_sample(recipe: Recipe) -> int:
    """Tokens of the longest prompt with the longest answer."""
    return recipe.rollout.max_prompt_length + recipe.rollout.max_completion_length
