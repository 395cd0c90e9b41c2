"""The shortest recipe that loads, and what it is refused for with an override laid over it."""

import pytest

from grpo.errors import RecipeError
from grpo.recipe import parse_recipe

MINIMAL = """\
model: tiny-base
max_steps: 2
output_dir: runs/x
template: qa
data:
  train: {path: arithmetic}
rewards:
  - name: number
    args: {extract: answer_tags}
rollout:
  problems_per_step: 4
  num_generations: 8
  max_prompt_length: 64
  max_completion_length: 64
learner:
  learning_rate: 3e-4
"""


def refused(*overrides: str, text: str = MINIMAL) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides)
    return caught.value
