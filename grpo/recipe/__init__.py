"""The recipe: its schema, a strict loader, and dotted overrides. Imports neither torch nor vllm."""

from grpo.recipe.checks import check_together
from grpo.recipe.keys import nearest_key, recipe_keys
from grpo.recipe.load import SHIPPED, Overrides, load_recipe, parse_recipe, with_overrides
from grpo.recipe.resume import check_resumable
from grpo.recipe.schema import (
    PREFILL_TOKENS,
    Algorithm,
    Audit,
    Checkpoint,
    Data,
    DataSource,
    Evaluation,
    Learner,
    Log,
    Parallel,
    Recipe,
    Reward,
    Rollout,
    Scoring,
    Section,
    TrainSource,
)
from grpo.recipe.yaml_text import parse_yaml, to_yaml

__all__ = [
    "PREFILL_TOKENS",
    "SHIPPED",
    "Algorithm",
    "Audit",
    "Checkpoint",
    "Data",
    "DataSource",
    "Evaluation",
    "Learner",
    "Log",
    "Overrides",
    "Parallel",
    "Recipe",
    "Reward",
    "Rollout",
    "Scoring",
    "Section",
    "TrainSource",
    "check_resumable",
    "check_together",
    "load_recipe",
    "nearest_key",
    "parse_recipe",
    "parse_yaml",
    "recipe_keys",
    "to_yaml",
    "with_overrides",
]
