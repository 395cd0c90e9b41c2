"""How much memory a run needs, part by part, from the recipe and the model's shape. Imports no torch.

Sizes are bytes; GB is 10^9. Parameter state is exact; activations are an estimate, and said to be.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grpo.model_shape import ModelShape
from grpo.recipe import Recipe, with_overrides

GB = 1e9
GPU_BYTES = 80 * GB
RUNTIME_BYTES = 0.8 * GB  # Python with torch, transformers and vLLM loaded: 0.6 GB measured, and their start
LOGITS_AT_ONCE = 2**24  # the learner applies the head in chunks of so many logits
ITEM_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One line of the account."""

    name: str
    formula: str
    num_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one device (the machine's memory, or each GPU) must hold, against what it has."""

    parts: tuple[Part, ...]
    capacity: float
    kv_tokens: int  # tokens that the engine's cache holds
    longest: int  # tokens of the longest sample

    @property
    def total(self) -> float:
        return sum(part.num_bytes for part in self.parts)

    @property
    def fits(self) -> bool:
        """Everything has room, and the engine's cache holds at least one sample of the greatest length."""
        return self.total <= self.capacity and self.kv_tokens >= self.longest


def account_for(recipe: Recipe, shape: ModelShape) -> Account:
    """Add up what a device holds at its fullest: learner and engine side by side.

    With GPUs the learner's state is sharded over all of them and the engine splits its weights and cache
    likewise; each GPU packs rows of its own.
    """
    shards = max(1, recipe.num_gpus)
    parts = [*_learner_parts(recipe, shape, shards), *_engine_parts(recipe, shape, shards)]
    if recipe.num_gpus == 0:
        parts.append(Part(name="runtime", formula="Python, torch, transformers and vLLM", num_bytes=RUNTIME_BYTES))
    capacity = GPU_BYTES if recipe.num_gpus else machine_bytes()
    return Account(
        parts=tuple(parts), capacity=capacity, kv_tokens=_kv_tokens(recipe, shape, shards), longest=_longest(recipe)
    )


def what_must_give(recipe: Recipe, shape: ModelShape) -> tuple[tuple[str, ...], Account]:
    """Overrides with which the run fits, or comes nearest; none that it could do without. And its account then."""
    chosen: dict[str, object] = {}
    for key, value in _savings(recipe):
        if _account_with(recipe, shape, chosen).fits:
            break
        chosen[key] = value
    for key in tuple(chosen):
        without = {other: value for other, value in chosen.items() if other != key}
        if _account_with(recipe, shape, without).fits:
            chosen = without
    return _as_overrides(chosen), _account_with(recipe, shape, chosen)


def _account_with(recipe: Recipe, shape: ModelShape, changes: Mapping[str, object]) -> Account:
    return account_for(with_overrides(recipe, _as_overrides(changes)), shape)


def _as_overrides(changes: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in changes.items())


def machine_bytes() -> float:
    """Memory of this machine, or of its control group where that is less."""
    physical = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(physical, float(text)) if text.isdecimal() else physical


def _learner_parts(recipe: Recipe, shape: ModelShape, shards: int) -> Iterator[Part]:
    count, dtype = shape.num_parameters, recipe.learner.dtype
    each, over = ITEM_BYTES[dtype], f" / {shards} GPUs" if shards > 1 else ""
    about = f"{count:,} x"

    def state(name: str, item_bytes: int) -> Part:
        return Part(name=name, formula=f"{about} {item_bytes} bytes{over}", num_bytes=count * item_bytes / shards)

    yield state(f"parameters ({dtype})", each)
    if dtype == "float32":
        yield state("gradients (float32)", 4)
    else:
        yield state("gradients (bfloat16 of one row, float32 sum)", each + 4)
        yield state("master copy (float32)", 4)
    yield state("AdamW moments (2 x float32)", 8)
    if recipe.algorithm.beta:
        yield state(f"reference copy ({dtype}, beta > 0)", each)
    yield _activations(recipe, shape, each)
    logits = min(LOGITS_AT_ONCE, recipe.learner.row_tokens * shape.vocab_size)
    yield Part(
        name="logits of one chunk", formula=f"{logits:,} x ({each} + 3 x 4) bytes", num_bytes=logits * (each + 12)
    )


def _activations(recipe: Recipe, shape: ModelShape, each: int) -> Part:
    tokens, per_token = recipe.learner.row_tokens, shape.activations_per_token
    if not recipe.learner.gradient_checkpointing:
        formula = f"about {tokens:,} tokens x {shape.num_layers} layers x {per_token:,} x {each} bytes"
        return Part(
            name="activations of one packed row",
            formula=formula,
            num_bytes=tokens * shape.num_layers * per_token * each,
        )
    kept = shape.num_layers * shape.hidden_size + per_token
    return Part(
        name="activations of one packed row, checkpointed",
        formula=f"about {tokens:,} tokens x ({shape.num_layers} layers x {shape.hidden_size:,} + {per_token:,}) "
        f"x {each} bytes",
        num_bytes=tokens * kept * each,
    )


def _engine_parts(recipe: Recipe, shape: ModelShape, shards: int) -> Iterator[Part]:
    each, count = ITEM_BYTES[recipe.engine_dtype], shape.num_parameters
    if recipe.rollout.engine == "transformers":
        yield Part(
            name="engine's KV cache",
            formula=f"{recipe.rollout.max_num_seqs} answers x {_longest(recipe):,} tokens x "
            f"{shape.kv_bytes_per_token(each):,} bytes; its weights are the learner's",
            num_bytes=recipe.rollout.max_num_seqs * _longest(recipe) * shape.kv_bytes_per_token(each),
        )
        return
    over = f" / {shards} GPUs" if shards > 1 else ""
    weights = count * each / shards
    formula = f"{count:,} x {each} bytes{over}"
    yield Part(name=f"engine's weights ({recipe.engine_dtype})", formula=formula, num_bytes=weights)
    if recipe.num_gpus:
        share = recipe.rollout.gpu_memory_utilization
        yield Part(
            name="engine's KV cache",
            formula=f"gpu_memory_utilization {share:g} x {GPU_BYTES / GB:.0f} GB, less the engine's weights",
            num_bytes=_gpu_kv_bytes(recipe, weights),
        )
    else:
        size = recipe.rollout.kv_cache_gb
        yield Part(name="engine's KV cache", formula=f"kv_cache_gb {size:g} x 2^30 bytes", num_bytes=size * 2**30)


def _gpu_kv_bytes(recipe: Recipe, weights: float) -> float:
    return max(0.0, recipe.rollout.gpu_memory_utilization * GPU_BYTES - weights)


def _kv_tokens(recipe: Recipe, shape: ModelShape, shards: int) -> int:
    each = ITEM_BYTES[recipe.engine_dtype]
    if recipe.rollout.engine == "transformers":
        return recipe.rollout.max_num_seqs * _longest(recipe)
    cache = recipe.rollout.kv_cache_gb * 2**30
    if recipe.num_gpus:
        cache = _gpu_kv_bytes(recipe, shape.num_parameters * each / shards)
    return int(cache // shape.kv_bytes_per_token(each, shards))


def _longest(recipe: Recipe) -> int:
    return recipe.rollout.max_prompt_length + recipe.rollout.max_completion_length


def _savings(recipe: Recipe) -> Iterator[tuple[str, object]]:
    """Changes that save memory, those first that cost least; none touches the algorithm."""
    rollout, learner = recipe.rollout, recipe.learner
    if not learner.gradient_checkpointing:
        yield "learner.gradient_checkpointing", True
    if learner.row_tokens > _longest(recipe):
        yield "learner.row_tokens", _longest(recipe)
    if rollout.engine == "vllm" and recipe.num_gpus:
        for share in (0.3, 0.2):
            if share < rollout.gpu_memory_utilization:
                yield "rollout.gpu_memory_utilization", share
    if recipe.num_gpus:
        for times in (2, 4, 8, 16):
            yield "num_gpus", recipe.num_gpus * times
    elif rollout.kv_cache_gb > 1:
        yield "rollout.kv_cache_gb", 1.0
    if learner.dtype == "float32" and rollout.engine_dtype is None:
        yield "learner.dtype", "bfloat16"
