"""Parameter counts against the models themselves, and the arithmetic of the account."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from grpo import memory
from grpo.errors import ModelError
from grpo.learner import policy
from grpo.memory import GB, account_for, what_must_give
from grpo.model_shape import PUBLIC_CONFIGS, read_shape
from grpo.recipe import Recipe, parse_recipe, with_overrides

DENSE = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 300,
}
FAMILIES = {
    "llama": {**DENSE, "tie_word_embeddings": True},
    "mistral": {**DENSE, "head_dim": 24, "tie_word_embeddings": False},
    "qwen2": {**DENSE, "tie_word_embeddings": False},
    "qwen3": {**DENSE, "head_dim": 32, "tie_word_embeddings": True},
    "qwen3_moe": {
        **DENSE,
        "head_dim": 32,
        "moe_intermediate_size": 40,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
}


def recipe_for(model: str, *overrides: str) -> Recipe:
    text = f"""
model: {model}
max_steps: 1
output_dir: runs/x
template: qa
data: {{train: {{path: arithmetic}}}}
rewards: [{{name: number}}]
rollout: {{problems_per_step: 4, num_generations: 8, max_prompt_length: 64, max_completion_length: 64}}
learner: {{learning_rate: 1e-4}}
"""
    return parse_recipe(text, overrides)


def write_config(folder: Path, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def parts_of(recipe: Recipe) -> dict[str, float]:
    shape = read_shape(recipe.model)
    assert shape is not None
    return {part.name: part.num_bytes for part in account_for(recipe, shape).parts}


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_counted_as_the_model_has_them(family: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path, model_type=family, **FAMILIES[family])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    shape = read_shape(str(folder))
    assert shape is not None
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "expected"),
    [("Qwen/Qwen3-30B-A3B-Base", 30_532_122_624), ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008)],
)
def test_public_shapes_have_the_published_size(
    model: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert set(PUBLIC_CONFIGS) >= {model}
    shape = read_shape(model)
    assert shape is not None
    assert shape.num_parameters == expected


def test_a_hub_id_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert read_shape("owner/name") is None
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    write_config(snapshot, model_type="llama", **FAMILIES["llama"])
    shape = read_shape("owner/name")
    assert shape is not None
    assert (shape.num_layers, shape.head_dim) == (3, 16)


def test_config_of_something_else_is_no_model(tmp_path: Path) -> None:
    write_config(tmp_path, model_type="resnet", depths=[3, 4])
    with pytest.raises(ModelError, match=r"hidden_size = None|num_attention_heads = None"):
        read_shape(str(tmp_path))


def test_state_of_the_learner_is_bytes_times_parameters(tmp_path: Path) -> None:
    folder = write_config(tmp_path, model_type="llama", **FAMILIES["llama"])
    shape = read_shape(str(folder))
    assert shape is not None
    count = shape.num_parameters
    fp32 = parts_of(recipe_for(str(folder)))
    assert fp32["parameters (float32)"] == 4 * count
    assert fp32["gradients (float32)"] == 4 * count
    assert fp32["AdamW moments (2 x float32)"] == 8 * count
    assert fp32["engine's weights (float32)"] == 4 * count
    assert fp32["engine's KV cache"] == 2**30
    bf16 = parts_of(recipe_for(str(folder), "learner.dtype=bfloat16", "algorithm.beta=0.1"))
    assert bf16["parameters (bfloat16)"] == 2 * count
    assert bf16["gradients (bfloat16 of one row, float32 sum)"] == 6 * count
    assert bf16["master copy (float32)"] == 4 * count
    assert bf16["reference copy (bfloat16, beta > 0)"] == 2 * count


def test_no_master_in_fp32_no_reference_without_beta_no_second_copy_in_the_transformers_engine(tmp_path: Path) -> None:
    folder = write_config(tmp_path, model_type="llama", **FAMILIES["llama"])
    names = " ".join(parts_of(recipe_for(str(folder), "rollout.engine=transformers")))
    assert "master" not in names
    assert "reference" not in names
    assert "engine's weights" not in names


def test_gpus_share_the_state_and_the_engine() -> None:
    model = "Qwen/Qwen3-30B-A3B-Base"
    one, eight = (parts_of(recipe_for(model, f"num_gpus={n}", "learner.dtype=bfloat16")) for n in (1, 8))
    for name in ("parameters (bfloat16)", "AdamW moments (2 x float32)", "engine's weights (bfloat16)"):
        assert one[name] == 8 * eight[name]
    assert one["activations of one packed row"] == eight["activations of one packed row"]


def test_keys_and_values_of_a_token() -> None:
    shape = read_shape("Qwen/Qwen3-30B-A3B-Base")
    assert shape is not None
    assert shape.kv_bytes_per_token(2) == 2 * 48 * 4 * 128 * 2
    assert shape.kv_bytes_per_token(2, num_shards=8) == 2 * 48 * 1 * 128 * 2  # 4 heads over 8: one each


def test_checkpointing_keeps_less() -> None:
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    kept = parts_of(recipe_for(model))["activations of one packed row"]
    parts = parts_of(recipe_for(model, "learner.gradient_checkpointing=true"))
    assert parts["activations of one packed row, checkpointed"] < kept / 4


def test_what_must_give_makes_the_run_fit_and_holds_nothing_needless() -> None:
    recipe = recipe_for("Qwen/Qwen3-30B-A3B-Base", "num_gpus=8", "learner.dtype=bfloat16")
    shape = read_shape(recipe.model)
    assert shape is not None
    assert not account_for(recipe, shape).fits
    overrides, account = what_must_give(recipe, shape)
    assert account.fits
    assert account == account_for(with_overrides(recipe, overrides), shape)
    for left_out in overrides:
        rest = [override for override in overrides if override != left_out]
        assert not account_for(with_overrides(recipe, rest), shape).fits


def test_a_cache_too_small_for_one_sample_does_not_fit() -> None:
    recipe = recipe_for("HuggingFaceTB/SmolLM2-135M-Instruct", "rollout.kv_cache_gb=0.001")
    shape = read_shape(recipe.model)
    assert shape is not None
    account = account_for(recipe, shape)
    assert account.kv_tokens < account.longest == 128
    assert account.total < account.capacity
    assert not account.fits


def test_the_chunk_of_logits_is_the_learners() -> None:
    assert memory.LOGITS_AT_ONCE == policy.LOGITS_AT_ONCE


def test_machine_memory_is_plausible() -> None:
    assert 0.5 * GB < memory.machine_bytes() < 1e5 * GB
