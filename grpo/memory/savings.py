"""What to change where a run does not fit, and how long a packed row may be where it does."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from grpo.errors import RecipeError
from grpo.memory.account import Account, Needs, account_for, needs_of
from grpo.memory.device import Device, device_of
from grpo.memory.part import longest_sample
from grpo.model_shape import ModelShape
from grpo.parallel_sizes import ENGINES_OWN_SHARE, GPUS_PER_NODE, check_parallel, most_learners
from grpo.recipe import Recipe, with_overrides

Changes = Mapping[str, object]
Saving = Callable[[Recipe, ModelShape, Device], Iterator[Changes]]
TIMES_GPUS = (1, 2, 4, 8, 16)
SPLITS = (1, 2, 4, 8)

WORTH_WHILE = 0.99  # of the shortage: what saves less is not proposed
ROW_STEP, MOST_ROW_TOKENS = 128, 2**20


def what_must_give(recipe: Recipe, shape: ModelShape, device: Device | None = None) -> tuple[tuple[str, ...], Account]:
    """Overrides with which the run fits, or comes nearest; none that it could do without. And its account then.

    Where they change ``num_gpus``, the run needs so many of the same kind.
    """
    device = device or device_of(recipe)
    chosen: list[Changes] = []
    for saving in SAVINGS:
        if _judged(recipe, shape, device, chosen).fits:
            break
        chosen = _best(recipe, shape, device, chosen, saving)
    for changes in tuple(chosen):
        without = [other for other in chosen if other is not changes]
        if "num_gpus" not in changes and _judged(recipe, shape, device, without).fits:
            chosen = without
    changed, on = _changed(recipe, device, chosen)
    asked = set(_said_by(recipe))
    return tuple(change for change in _as_overrides(chosen) if change not in asked), account_for(changed, shape, on)


def _best(recipe: Recipe, shape: ModelShape, device: Device, chosen: list[Changes], saving: Saving) -> list[Changes]:
    """With the first of a saving's changes that makes the run fit; else with the one that helps most, if any does."""
    current, on = _changed(recipe, device, chosen)
    best, least = chosen, _judged(recipe, shape, device, chosen).shortage
    for changes in saving(current, shape, on):
        tried = [earlier for earlier in chosen if not earlier.keys() <= changes.keys()] + [changes]
        if "num_gpus" in changes and not _is_valid(recipe, shape, device, tried):
            continue
        needs = _judged(recipe, shape, device, tried)
        if needs.fits:
            return tried
        if needs.shortage < WORTH_WHILE * least:
            best, least = tried, needs.shortage
    return best


def largest_row_tokens(recipe: Recipe, shape: ModelShape, device: Device) -> int | None:
    """The longest packed row (the micro-batch) that fits; None where not even the longest sample does."""

    def fits(row_tokens: int) -> bool:
        learner = recipe.learner.model_copy(update={"row_tokens": row_tokens})
        return needs_of(recipe.model_copy(update={"learner": learner}), shape, device).fits

    low = longest_sample(recipe)
    if not fits(low):
        return None
    high = MOST_ROW_TOKENS
    while high - low > ROW_STEP:
        middle = (low + high) // 2 // ROW_STEP * ROW_STEP
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _judged(recipe: Recipe, shape: ModelShape, device: Device, chosen: Sequence[Changes]) -> Needs:
    changed, on = _changed(recipe, device, chosen)
    return needs_of(changed, shape, on)


def _changed(recipe: Recipe, device: Device, chosen: Sequence[Changes]) -> tuple[Recipe, Device]:
    changed = with_overrides(recipe, _as_overrides(chosen))
    return changed, Device(device.name, device.num_bytes, changed.num_gpus) if device.is_gpu else device


def _is_valid(recipe: Recipe, shape: ModelShape, device: Device, chosen: Sequence[Changes]) -> bool:
    """Whether sizes divide the model and make up the GPUs; changes that lack half of others do not."""
    try:
        check_parallel(_changed(recipe, device, chosen)[0], shape)
    except RecipeError:
        return False
    return True


def _said_by(recipe: Recipe) -> Iterator[str]:
    """What the recipe says already, as overrides."""
    yield f"num_gpus={recipe.num_gpus}"
    for name in ("rollout", "learner", "parallel"):
        for key, value in getattr(recipe, name).model_dump().items():
            yield f"{name}.{key}={json.dumps(value)}"


def _as_overrides(chosen: Sequence[Changes]) -> tuple[str, ...]:
    merged: dict[str, object] = {}
    for changes in chosen:
        merged |= changes
    return tuple(f"{key}={json.dumps(value)}" for key, value in merged.items())


def _checkpointing(recipe: Recipe, _shape: ModelShape, _device: Device) -> Iterator[Changes]:
    if not recipe.learner.gradient_checkpointing:
        yield {"learner.gradient_checkpointing": True}


def _shorter_rows(recipe: Recipe, _shape: ModelShape, _device: Device) -> Iterator[Changes]:
    if recipe.learner.row_tokens > longest_sample(recipe):
        yield {"learner.row_tokens": longest_sample(recipe)}


def _offloaded(recipe: Recipe, _shape: ModelShape, device: Device) -> Iterator[Changes]:
    if device.is_gpu and not recipe.learner.offload_optimizer:
        yield {"learner.offload_optimizer": True}


def _other_cache(recipe: Recipe, _shape: ModelShape, device: Device) -> Iterator[Changes]:
    """Less beside a learner; engines that have their GPUs to themselves may take nearly all of them."""
    rollout = recipe.rollout
    if rollout.engine != "vllm":
        return
    if not device.is_gpu:
        yield {"rollout.kv_cache_gb": min(1.0, rollout.kv_cache_gb)}
        return
    shares = (ENGINES_OWN_SHARE,) if rollout.num_engines else (0.3, 0.2)
    for share in shares:
        if bool(rollout.num_engines) == (share > rollout.gpu_memory_utilization):
            yield {"rollout.gpu_memory_utilization": share}


def _other_sizes(recipe: Recipe, shape: ModelShape, device: Device) -> Iterator[Changes]:
    """The same GPUs used otherwise, then more of them: shards first, then heads and columns, stretches of rows."""
    for times in TIMES_GPUS if device.is_gpu else ():
        total = device.num_gpus if times == 1 else _whole_nodes(device.num_gpus * times)
        for engines in _engines(recipe, total):
            beside = engines["rollout.num_engines"] * engines["rollout.tensor_parallel"]
            apart = {"rollout.gpu_memory_utilization": ENGINES_OWN_SHARE} if beside else {}
            for learners, sizes in _sizes(recipe, total, beside):
                yield {"num_gpus": learners + beside, **sizes, **engines, **apart}


def _whole_nodes(num_gpus: int) -> int:
    """More GPUs than one node has come as nodes."""
    return num_gpus if num_gpus <= GPUS_PER_NODE else math.ceil(num_gpus / GPUS_PER_NODE) * GPUS_PER_NODE


def _engines(recipe: Recipe, total: int) -> Iterator[dict[str, int]]:
    """As they are; and where one shares the learner's GPU, engines on a quarter of the first node's GPUs."""
    rollout = recipe.rollout
    yield {"rollout.num_engines": rollout.num_engines, "rollout.tensor_parallel": rollout.tensor_parallel}
    if rollout.num_engines == 0 and rollout.engine == "vllm":
        for split in SPLITS:
            num_engines = max(1, min(total, GPUS_PER_NODE) // 4 // split)
            yield {"rollout.num_engines": num_engines, "rollout.tensor_parallel": split}


def _sizes(recipe: Recipe, total: int, beside: int) -> Iterator[tuple[int, dict[str, int]]]:
    """How many learner processes go on ``total`` GPUs beside the engines', and their sizes."""
    pipeline = recipe.parallel.pipeline
    for tensor, context in [(1, 1), *((split, 1) for split in SPLITS[1:]), *((1, split) for split in SPLITS[1:])]:
        others = tensor * context * pipeline
        learners = most_learners(total, beside, multiple=others)
        if learners:
            yield (
                learners,
                {
                    "parallel.replicate": 1,
                    "parallel.shard": learners // others,
                    "parallel.tensor": tensor,
                    "parallel.expert": tensor if recipe.parallel.expert > 1 else 1,
                    "parallel.context": context,
                },
            )


def _half_precision(recipe: Recipe, _shape: ModelShape, _device: Device) -> Iterator[Changes]:
    if recipe.learner.dtype == "float32" and recipe.rollout.engine_dtype is None:
        yield {"learner.dtype": "bfloat16"}


# Those first that cost least; none touches the algorithm.
SAVINGS: tuple[Saving, ...] = (
    *(_checkpointing, _shorter_rows, _other_cache),
    *(_other_sizes, _half_precision, _offloaded),
)
