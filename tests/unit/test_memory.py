"""Parameter counts against the models themselves, and the arithmetic of the account."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from grpo import memory
from grpo.errors import ModelError, RecipeError, UserError
from grpo.learner import policy
from grpo.learner.attention import PACKED, packed_rows
from grpo.memory import (
    GB,
    Account,
    Device,
    Part,
    account_for,
    largest_row_tokens,
    needs_of,
    parse_gpus,
    what_must_give,
)
from grpo.memory.learner import layer_bytes_per_token
from grpo.model_shape import PUBLIC_CONFIGS, ModelShape, read_shape
from grpo.parallel_sizes import check_parallel
from grpo.recipe import Recipe, parse_recipe, with_overrides

QWEN, SMOLLM2 = "Qwen/Qwen3-30B-A3B-Base", "HuggingFaceTB/SmolLM2-135M-Instruct"
ACTIVATIONS = "activations of one packed row"
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
    """Several learner processes have an engine beside them."""
    if any(override.startswith("parallel.") for override in overrides):
        overrides = ("rollout.num_engines=1", *overrides)
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
    place = needs_of(recipe, shape).places[0]
    return {part.name: part.num_bytes for part in place.account.parts}


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
    [(QWEN, 30_532_122_624), (SMOLLM2, 134_515_008)],
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
    with pytest.raises(ModelError, match=r"hidden_size = null|num_attention_heads = null"):
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
    blocks = 1 + 128 * (1 + 1)  # vLLM's own, and of 128 answers of one block each, one more
    assert fp32["engine's KV cache"] == blocks * 128 * shape.kv_bytes_per_token(4)
    assert parts_of(recipe_for(str(folder), "rollout.kv_cache_gb=0.001"))["engine's KV cache"] == 0.001 * 2**30
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


def test_shards_share_the_state_and_not_the_rows() -> None:
    one, eight = (parts_of(recipe_for(QWEN, f"parallel.shard={n}", "learner.dtype=bfloat16")) for n in (1, 8))
    for name in ("parameters (bfloat16)", "master copy (float32)", "AdamW moments (2 x float32)"):
        assert one[name] == 8 * eight[name]
    assert one[ACTIVATIONS] == eight[ACTIVATIONS]
    assert "parameters gathered whole" not in one
    outside, layer = 2 * 151936 * 2048 + 2048, (30_532_122_624 - 2 * 151936 * 2048 - 2048) / 48
    assert eight["parameters gathered whole"] == pytest.approx((outside + 3 * layer) * 2)


def test_only_a_learner_alone_or_one_of_small_tensors_loses_memory_to_the_allocator() -> None:
    slack = "allocator's slack"
    assert slack in parts_of(recipe_for(SMOLLM2, "rollout.num_engines=1"))
    assert slack not in parts_of(recipe_for(SMOLLM2, "parallel.shard=2", "learner.row_tokens=512"))
    assert slack in parts_of(recipe_for(SMOLLM2, "parallel.shard=2", "learner.row_tokens=256"))  # 0.6 MB wide


def test_the_dimensions_divide_what_they_cut() -> None:
    whole = parts_of(recipe_for(SMOLLM2))
    tensor = parts_of(recipe_for(SMOLLM2, "parallel.tensor=3"))
    embedding, cut = 49152 * 576, 30 * (2 * 576 * 64 * (9 + 3) + 3 * 576 * 1536)
    uncut = 30 * 2 * 576 + 576
    assert whole["parameters (float32)"] == 4 * (embedding + cut + uncut)
    assert tensor["parameters (float32)"] == 4 * (embedding + cut / 3 + uncut)
    context = parts_of(recipe_for(SMOLLM2, "parallel.context=2"))
    assert context["parameters (float32)"] == whole["parameters (float32)"]
    keys = 2 * 3 * 64 * 4 * 30 * 2048  # of the whole row, on each
    assert context[ACTIVATIONS] == pytest.approx(whole[ACTIVATIONS] / 2 + keys / 2)
    pipeline = parts_of(recipe_for(SMOLLM2, "parallel.pipeline=2", "learner.gradient_checkpointing=true"))
    assert pipeline["parameters (float32)"] == pytest.approx(4 * (embedding + cut / 2 + uncut / 2), rel=1e-4)


def test_experts_are_as_many_bytes_whole_as_in_slices() -> None:
    slices, whole = (parts_of(recipe_for(QWEN, "parallel.tensor=4", f"parallel.expert={expert}")) for expert in (1, 4))
    assert slices["parameters (float32)"] == whole["parameters (float32)"]
    assert slices["parameters (float32)"] < parts_of(recipe_for(QWEN))["parameters (float32)"] / 3.5


def test_a_first_stage_keeps_a_row_for_each_stage() -> None:
    recipe = recipe_for(QWEN, "parallel.pipeline=4", "learner.row_tokens=65536")
    shape = read_shape(QWEN)
    assert shape is not None
    one = layer_bytes_per_token(shape, recipe)
    assert parts_of(recipe)[ACTIVATIONS] == 4 * 65536 * 12 * one


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_what_autograd_keeps(family: str, dtype: str, tmp_path: Path) -> None:
    config = {**FAMILIES[family], "num_hidden_layers": 8, "num_attention_heads": 4}
    folder = write_config(tmp_path, model_type=family, **config)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(folder), dtype=getattr(torch, dtype), attn_implementation=PACKED
    )
    shape = read_shape(str(folder))
    assert shape is not None
    tokens = 256
    kept = kept_for_backward(model, tokens)
    planned = tokens * 8 * layer_bytes_per_token(shape, recipe_for(str(folder), f"learner.dtype={dtype}"))
    assert planned == pytest.approx(kept, rel=0.1)


def kept_for_backward(model: torch.nn.Module, tokens: int) -> int:
    """Bytes of all storages that a forward pass of the decoder saves, parameters aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no other is given its address
        return tensor

    ids = torch.zeros(1, tokens, dtype=torch.int64)
    positions = torch.arange(tokens)[None]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), packed_rows((0, tokens)):
        model.get_submodule("model")(input_ids=ids, position_ids=positions, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


def test_keys_and_values_of_a_token() -> None:
    shape = read_shape(QWEN)
    assert shape is not None
    assert shape.kv_bytes_per_token(2) == 2 * 48 * 4 * 128 * 2
    assert shape.kv_bytes_per_token(2, num_shards=8) == 2 * 48 * 1 * 128 * 2  # 4 heads over 8: one each


def test_checkpointing_keeps_less() -> None:
    model = SMOLLM2
    kept = parts_of(recipe_for(model))["activations of one packed row"]
    parts = parts_of(recipe_for(model, "learner.gradient_checkpointing=true"))
    assert parts["activations of one packed row, checkpointed"] < kept / 4


def test_what_must_give_makes_the_run_fit_and_holds_nothing_needless() -> None:
    recipe = recipe_for(QWEN, "num_gpus=8", "parallel.shard=7", "learner.dtype=bfloat16")
    shape = read_shape(recipe.model)
    assert shape is not None
    assert not account_for(recipe, shape).fits
    overrides, account = what_must_give(recipe, shape)
    assert account.fits
    assert account == account_for(with_overrides(recipe, overrides), shape)
    for left_out in overrides:
        rest = with_overrides(recipe, [override for override in overrides if override != left_out])
        assert not (account_for(rest, shape).fits and sizes_agree(rest, shape))


def sizes_agree(recipe: Recipe, shape: ModelShape) -> bool:
    try:
        check_parallel(recipe, shape)
    except RecipeError:
        return False
    return True


def test_the_cheapest_change_is_tried_first() -> None:
    shape = read_shape(SMOLLM2)
    assert shape is not None
    recipe = recipe_for(SMOLLM2, "num_gpus=1", "learner.row_tokens=16384")
    card = Device("test", 24 * GB, 1)
    assert not needs_of(recipe, shape, card).fits
    overrides, account = what_must_give(recipe, shape, card)
    assert overrides == ("learner.gradient_checkpointing=true",)
    assert account.fits


def test_the_largest_row_is_the_largest() -> None:
    shape = read_shape(SMOLLM2)
    assert shape is not None
    card = Device("test", 24 * GB, 1)
    recipe = recipe_for(SMOLLM2, "num_gpus=1")
    largest = largest_row_tokens(recipe, shape, card)
    assert largest is not None
    for tokens, expected in ((largest, True), (largest + 256, False)):
        changed = with_overrides(recipe, [f"learner.row_tokens={tokens}"])
        assert needs_of(changed, shape, card).fits is expected
    assert largest_row_tokens(recipe, shape, Device("test", 2 * GB, 1)) is None


def test_phases_of_a_step_do_not_add_up() -> None:
    parts = [("state", 10, "always"), ("rows", 5, "learning"), ("cache", 7, "sampling"), ("bucket", 1, "publishing")]
    account = Account(
        parts=tuple(Part(name=n, formula="", num_bytes=b, phase=p) for n, b, p in parts),  # type: ignore[arg-type]
        capacity=17,
        kv_tokens=1,
        longest=1,
    )
    assert account.total == 17
    assert account.fits


def test_engines_of_their_own_take_gpus_of_their_own() -> None:
    shape = read_shape(QWEN)
    assert shape is not None
    overrides = ("num_gpus=12", "parallel.shard=8", "rollout.num_engines=2", "rollout.tensor_parallel=2")
    places = {place.name: place for place in needs_of(recipe_for(QWEN, *overrides), shape).places}
    assert {name: place.count for name, place in places.items()} == {"learner": 8, "engine": 4}
    weights = next(p for p in places["engine"].account.parts if p.name.startswith("engine's weights"))
    assert weights.num_bytes == 4 * shape.num_parameters / 2
    assert places["learner"].account.kv_tokens is None


def test_processes_on_one_machine_share_its_memory() -> None:
    shape = read_shape(SMOLLM2)
    assert shape is not None
    recipe = recipe_for(SMOLLM2, "parallel.shard=2", "rollout.num_engines=2")
    needs = needs_of(recipe, shape)
    assert {place.name: place.count for place in needs.places} == {"learner": 2, "engine": 2, "shared memory": 1}
    total = sum(place.count * place.account.total for place in needs.places)
    assert account_for(recipe, shape).total == pytest.approx(total)
    assert needs.shortage == total - memory.machine_bytes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8xH100", Device("H100", 80 * GB, 8)),
        ("rtx4090", Device("RTX4090", 24 * GB, 1)),
        ("2xA100-40", Device("A100-40", 40 * GB, 2)),
        ("8x96GB", Device("96 GB GPU", 96 * GB, 8)),
        ("16GB", Device("16 GB GPU", 16 * GB, 1)),
    ],
)
def test_gpus_are_named_or_sized(text: str, expected: Device) -> None:
    assert parse_gpus(text) == expected


@pytest.mark.parametrize("text", ["8xH900", "0xH100", "H100x8", "8x", "", "0GB", "8x-4GB"])
def test_an_unknown_gpu_is_refused_with_those_known(text: str) -> None:
    with pytest.raises(UserError, match=r"H100, H200, B200, A100-40, .*8x96GB"):
        parse_gpus(text)


def test_without_gpus_the_plan_is_for_this_machine() -> None:
    assert parse_gpus("cpu") == Device("this machine", memory.machine_bytes(), 0)


def test_a_cache_too_small_for_one_sample_does_not_fit() -> None:
    recipe = recipe_for(SMOLLM2, "rollout.kv_cache_gb=0.001")
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
