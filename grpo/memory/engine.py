"""What one process of the engine holds: weights, KV cache, and what it computes with."""

from collections.abc import Iterator

from grpo.memory.device import Device
from grpo.memory.part import GB, ITEM_BYTES, Part, Phase, longest_sample
from grpo.model_shape import ModelShape
from grpo.recipe import PREFILL_TOKENS, Recipe

CPU_BLOCK = 128  # tokens of one block of the CPU engine's cache


def engine_parts(recipe: Recipe, shape: ModelShape, device: Device) -> Iterator[Part]:
    """The parts of one process of an engine."""
    if recipe.rollout.engine == "transformers":
        yield _transformers_cache(recipe, shape)
        return
    each, split = ITEM_BYTES[recipe.engine_dtype], recipe.rollout.tensor_parallel
    over = f" / {split} GPUs" if split > 1 else ""
    sleeps = device.is_gpu and recipe.rollout.sleep
    phase: Phase = "sampling" if sleeps else "always"
    yield Part(
        name=f"engine's weights ({recipe.engine_dtype})",
        formula=f"{shape.num_parameters:,} x {each} bytes{over}",
        num_bytes=_weights(recipe, shape),
        phase=phase,
    )
    if sleeps:
        yield Part(
            name="engine's weights, awake to be loaded",
            formula="as many; the cache wakes after them",
            num_bytes=_weights(recipe, shape),
            phase="publishing",
        )
    yield _cache(recipe, shape, device, phase)
    yield _working_memory(recipe, shape, device, phase)


def kv_tokens(recipe: Recipe, shape: ModelShape, device: Device) -> int:
    """Tokens that the cache of one engine holds."""
    if recipe.rollout.engine == "transformers":
        return recipe.rollout.max_num_seqs * longest_sample(recipe)
    cache = _gpu_cache_bytes(recipe, shape, device) if device.is_gpu else _cpu_cache_bytes(recipe, shape)
    return int(cache // _bytes_per_token(recipe, shape))


def _bytes_per_token(recipe: Recipe, shape: ModelShape) -> int:
    return shape.kv_bytes_per_token(ITEM_BYTES[recipe.engine_dtype], recipe.rollout.tensor_parallel)


def _weights(recipe: Recipe, shape: ModelShape) -> float:
    return shape.num_parameters * ITEM_BYTES[recipe.engine_dtype] / recipe.rollout.tensor_parallel


def _transformers_cache(recipe: Recipe, shape: ModelShape) -> Part:
    each, rollout = ITEM_BYTES[recipe.engine_dtype], recipe.rollout
    return Part(
        name="engine's KV cache",
        formula=f"{rollout.max_num_seqs} answers x {longest_sample(recipe):,} tokens x "
        f"{shape.kv_bytes_per_token(each):,} bytes; its weights are the learner's",
        num_bytes=rollout.max_num_seqs * longest_sample(recipe) * shape.kv_bytes_per_token(each),
        phase="sampling",
    )


def _cache(recipe: Recipe, shape: ModelShape, device: Device, phase: Phase) -> Part:
    rollout = recipe.rollout
    if device.is_gpu:
        least = longest_sample(recipe) * _bytes_per_token(recipe, shape)  # without which it cannot work
        return Part(
            name="engine's KV cache",
            formula=f"gpu_memory_utilization {rollout.gpu_memory_utilization:g} x {device.num_bytes / GB:g} GB, "
            "less the engine's weights and working memory; at least one sample",
            num_bytes=max(_gpu_cache_bytes(recipe, shape, device), least),
            phase=phase,
        )
    return Part(
        name="engine's KV cache",
        formula=f"at most kv_cache_gb {rollout.kv_cache_gb:g} x 2^30 bytes; {rollout.max_num_seqs} answers x "
        f"{_blocks_per_answer(recipe)} blocks x {CPU_BLOCK} tokens x {_bytes_per_token(recipe, shape):,} bytes",
        num_bytes=_cpu_cache_bytes(recipe, shape),
        phase=phase,
    )


def _gpu_cache_bytes(recipe: Recipe, shape: ModelShape, device: Device) -> float:
    share = recipe.rollout.gpu_memory_utilization * device.num_bytes
    return max(0.0, share - _weights(recipe, shape) - _working_bytes(recipe, shape, device))


def _cpu_cache_bytes(recipe: Recipe, shape: ModelShape) -> float:
    """The engine takes what its fullest batch can use, and no more than it is allowed; one block is vLLM's own."""
    blocks = 1 + recipe.rollout.max_num_seqs * _blocks_per_answer(recipe)
    fullest = blocks * CPU_BLOCK * _bytes_per_token(recipe, shape)
    return min(recipe.rollout.kv_cache_gb * 2**30, fullest)


def _blocks_per_answer(recipe: Recipe) -> int:
    return -(-longest_sample(recipe) // CPU_BLOCK) + 1


def _working_memory(recipe: Recipe, shape: ModelShape, device: Device, phase: Phase) -> Part:
    """On a GPU it is set aside for good when the engine starts; a CPU takes it while it samples."""
    return Part(
        name="engine's working memory",
        formula=f"about {_prefill_tokens(recipe, device):,} tokens x {_width(recipe, shape):,.0f} numbers, "
        f"{recipe.rollout.max_num_seqs} x {shape.vocab_size:,} logits x 3 x 4 bytes",
        num_bytes=_working_bytes(recipe, shape, device),
        phase=phase if device.is_gpu else "sampling",
    )


def _working_bytes(recipe: Recipe, shape: ModelShape, device: Device) -> float:
    prefill = _prefill_tokens(recipe, device) * _width(recipe, shape) * ITEM_BYTES[recipe.engine_dtype]
    return prefill + recipe.rollout.max_num_seqs * shape.vocab_size * 3 * 4


def _prefill_tokens(recipe: Recipe, device: Device) -> int:
    """A GPU's engine tries its largest step when it starts; a CPU's meets the prompts that there are."""
    rollout = recipe.rollout
    if device.is_gpu:
        return rollout.step_tokens(longest_sample(recipe))
    return min(PREFILL_TOKENS, rollout.max_num_seqs * rollout.max_prompt_length)


def _width(recipe: Recipe, shape: ModelShape) -> float:
    """Numbers of one token that stand beside each other in the widest part of a layer: the MLP."""
    experts = max(1, shape.experts_per_token)
    return 3 * experts * shape.intermediate_size / recipe.rollout.tensor_parallel + (3 + experts) * shape.hidden_size
