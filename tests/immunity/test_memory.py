"""Memory that is needed only when an engine wakes up beside the learner: known before the run, not met in it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from grpo.memory import GB, Device, Part, needs_of, what_must_give
from grpo.memory import account as accounting
from grpo.memory.engine import engine_parts
from grpo.model_shape import ModelShape, read_shape
from grpo.recipe import Recipe, with_overrides
from tests.factories import make_recipe

CONFIG = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 8192,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
OVERRIDES = (
    *("num_gpus=1", "rollout.sleep=true", "learner.dtype=bfloat16", "learner.gradient_checkpointing=true"),
    *("rollout.max_prompt_length=16", "learner.row_tokens=32", "rollout.max_num_seqs=2"),
)
GPU = Device("24 GB GPU", 24 * GB, 1)


@pytest.fixture
def asleep(tmp_path: Path) -> tuple[Recipe, ModelShape]:
    """A run whose engine sleeps while the learner learns, of a model of 1.1 billion parameters."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    recipe = with_overrides(make_recipe(), (f"model={tmp_path}", *OVERRIDES))
    shape = read_shape(recipe.model)
    assert shape is not None
    return recipe, shape


def parts_of_a_sleeper(recipe: Recipe, shape: ModelShape, device: Device) -> Iterator[Part]:
    return (part for part in engine_parts(recipe, shape, device) if part.phase != "sampling")


def test_a_gpu_too_small_for_the_engine_to_wake_up_beside_the_learner_is_known_before_the_run(
    asleep: tuple[Recipe, ModelShape], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, shape = asleep
    assert not needs_of(recipe, shape, GPU).fits
    changes, account = what_must_give(recipe, shape, GPU)
    assert changes
    assert account.fits
    assert needs_of(with_overrides(recipe, changes), shape, GPU).fits

    monkeypatch.setattr(accounting, "engine_parts", parts_of_a_sleeper)  # and the GPU seems to be large enough
    assert needs_of(recipe, shape, GPU).fits
