"""A value for each key that has no default to show, for messages that say what to write there."""

import json
from typing import Any

from pydantic import BaseModel

from grpo.recipe.keys import recipe_keys, section_of
from grpo.recipe.schema import Recipe

Loc = tuple[int | str, ...]

# as they stand in an override; N is a place in a list
EXAMPLES = {
    "model": "tiny-base",
    "max_steps": "100",
    "max_time": "23:50:00",
    "output_dir": "runs/mine",
    "template": "qa",
    "system_prompt": "'Think first, then answer.'",
    "data.train.path": "arithmetic",
    "data.train.subset": "main",
    "data.train.reference_pattern": "'#### (.*)'",
    "data.train.limit": "1000",
    "data.train.filter": "'len(question) < 400'",
    "data.train.curriculum": "level",
    "data.held_out.path": "arithmetic",
    "data.held_out.subset": "main",
    "data.held_out.reference_pattern": "'#### (.*)'",
    "data.held_out.limit": "1000",
    "data.held_out.filter": "'len(question) < 400'",
    "rewards.N.name": "number",
    "rewards.N.fn": "my_rewards.py:reward",
    "scoring.audit.name": "math_answer",
    "scoring.audit.fn": "my_rewards.py:reward",
    "rollout.engine_dtype": "float32",
    "rollout.problems_per_step": "16",
    "rollout.num_generations": "8",
    "rollout.max_completion_length": "64",
    "rollout.tool": "python",
    "algorithm.preset": "dapo",
    "algorithm.epsilon_high": "0.28",
    "algorithm.delta": "4.0",
    "algorithm.off_policy_mask_threshold": "0.5",
    "learner.learning_rate": "1e-6",
    "checkpoint.metric_for_best_model": "pass@1",
    # whose default is empty, and shows nothing
    "log.report_to": "[wandb]",
    "rollout.servers": "['http://127.0.0.1:8000']",
    "rollout.stop": "['</answer>']",
}


def what_to_write(loc: Loc) -> str:
    """A sentence that shows a value of the key at ``loc``: its default, or one that is allowed there.

    >>> what_to_write(("rollout", "temperature")), what_to_write(("algorithm", "delta"))
    ('The default is 1.0.', 'Leave it out, or use 4.0, say.')
    """
    key = ".".join("N" if isinstance(part, int) else part for part in loc)
    if key.startswith(("data.train.N.", "data.held_out.N.")):
        key = key.replace(".N.", ".", 1)  # a source in a list has the keys of one that stands alone
    below = [known for known in recipe_keys() if known.startswith(f"{key}.")]
    if any(known.startswith(f"{key}.N.") for known in below):
        return f"Write a list of sections, as in {key}=[{{name: number}}]."
    if below:
        return f"Set its keys, as in {below[0].replace('.N.', '.0.')}={_example(below[0])}."
    known, default = _default_of(loc)
    example = EXAMPLES.get(key)
    if known and default is not None and not (example and default == []):
        return f"The default is {json.dumps(default)}."
    use = f"use {example}, say." if example else "mend it."
    return f"Leave it out, or {use}" if known else use[0].upper() + use[1:]


def _example(key: str) -> str:
    known, default = _default_of(tuple(key.split(".")))
    return json.dumps(default).strip('"') if known and default is not None else EXAMPLES[key]


def _default_of(loc: Loc) -> tuple[bool, Any]:
    """Whether the key may be left out, and what it is then."""
    model: type[BaseModel] = Recipe
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a place in a list
        section, _ = section_of(field.annotation)
        if section is None:
            return not field.is_required(), None if field.is_required() else field.default
        model = section
    return False, None
