"""Who holds what: the kinds of process that a run has, and the account of each."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from grpo.memory.device import Device, device_of
from grpo.memory.engine import engine_parts, kv_tokens
from grpo.memory.learner import has_large_tensors, learner_parts, row_bytes
from grpo.memory.part import GB, ITEM_BYTES, Part, longest_sample
from grpo.model_shape import ModelShape
from grpo.recipe import Recipe

# A process on a CPU, before it has loaded a model: measured (docs/scaling.md).
LEARNER_RUNTIME_BYTES = 0.47 * GB  # Python with torch and transformers
ENGINE_RUNTIME_BYTES = 0.80 * GB  # those, and vLLM started
# Of what a row's layers keep (or, checkpointed, keep again and again), what the C library's allocator does not find
# again, because tensors come in all sizes: measured, too. Learners of several processes have large ones given back.
CPU_SLACK = 0.40
# On a GPU: 0.3 to 0.55 GB are reported of torch's own (pytorch issues 81257 and 107667).
CUDA_CONTEXT_BYTES = 0.5 * GB
# NCCL's default buffer of 4 MiB, to and from a neighbour, on each of at most 32 channels.
NCCL_GROUP_BYTES = 2 * 32 * 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one device (the machine's memory, or each GPU) must hold, against what it has."""

    parts: tuple[Part, ...]
    capacity: float
    kv_tokens: int | None  # tokens that the engine's cache holds; None where there is no engine
    longest: int  # tokens of the longest sample

    @property
    def total(self) -> float:
        """At the fullest phase of a step."""
        phases: dict[str, float] = defaultdict(float)
        for part in self.parts:
            phases[part.phase] += part.num_bytes
        return phases.pop("always", 0.0) + max(phases.values(), default=0.0)

    @property
    def holds_longest(self) -> bool:
        """Whether the engine's cache holds at least one sample of the greatest length."""
        return self.kv_tokens is None or self.kv_tokens >= self.longest

    @property
    def fits(self) -> bool:
        return self.total <= self.capacity and self.holds_longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Processes (on GPUs, each has one to itself) that hold the same."""

    name: str
    count: int
    account: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """All places of a run, on what it is planned for."""

    device: Device
    places: tuple[Place, ...]

    @property
    def shortage(self) -> float:
        """Bytes too much: on the fullest GPU, or on the machine that all processes share. Negative: left over."""
        if self.device.is_gpu:
            return max(place.account.total for place in self.places) - self.device.num_bytes
        return sum(place.count * place.account.total for place in self.places) - self.device.num_bytes

    @property
    def fits(self) -> bool:
        return self.shortage <= 0 and all(place.account.holds_longest for place in self.places)


def needs_of(recipe: Recipe, shape: ModelShape, device: Device | None = None) -> Needs:
    """Every process of a run. ``device``: absent, it is what the recipe asks for."""
    device = device or device_of(recipe)
    return Needs(device=device, places=tuple(_places(recipe, shape, device)))


def account_for(recipe: Recipe, shape: ModelShape, device: Device | None = None) -> Account:
    """Of the fullest GPU; on a CPU, of the whole machine."""
    needs = needs_of(recipe, shape, device)
    caches = [place.account.kv_tokens for place in needs.places if place.account.kv_tokens is not None]
    fullest = max((place.account for place in needs.places), key=lambda account: account.total)
    if needs.device.is_gpu or sum(place.count for place in needs.places) == 1:
        return replace(fullest, kv_tokens=min(caches))
    parts = tuple(
        Part(
            name=f"{place.name} x {place.count}",
            formula=f"{place.account.total / GB:.2f} GB each (`grpo plan` has its parts)",
            num_bytes=place.count * place.account.total,
        )
        for place in needs.places
    )
    return replace(fullest, parts=parts, kv_tokens=min(caches))


def _places(recipe: Recipe, shape: ModelShape, device: Device) -> Iterator[Place]:
    learners, engines = recipe.parallel.num_processes, recipe.rollout.num_engines
    if engines:
        yield _place("learner", learners, recipe, shape, device)
        yield _place("engine", engines * recipe.rollout.tensor_parallel, recipe, shape, device)
        if not device.is_gpu:
            yield _parcel(recipe, shape, device)
    else:
        yield _place("learner and engine", learners, recipe, shape, device)


def _place(name: str, count: int, recipe: Recipe, shape: ModelShape, device: Device) -> Place:
    parts: list[Part] = []
    has_engine = "engine" in name
    if "learner" in name:
        parts += learner_parts(recipe, shape)
    if has_engine:
        parts += engine_parts(recipe, shape, device)
    parts += _gpu_runtime(name, recipe) if device.is_gpu else _cpu_runtime(name, recipe, shape)
    account = Account(
        parts=tuple(parts),
        capacity=device.num_bytes,
        kv_tokens=kv_tokens(recipe, shape, device) if has_engine else None,
        longest=longest_sample(recipe),
    )
    return Place(name=name, count=count, account=account)


def _cpu_runtime(name: str, recipe: Recipe, shape: ModelShape) -> Iterator[Part]:
    vllm = "engine" in name and recipe.rollout.engine == "vllm"
    yield Part(
        name="runtime",
        formula="Python, torch, transformers" + (" and vLLM" if vllm else ""),
        num_bytes=ENGINE_RUNTIME_BYTES if vllm else LEARNER_RUNTIME_BYTES,
    )
    gives_back = recipe.parallel.num_processes > 1 and has_large_tensors(recipe, shape)
    if "learner" in name and not gives_back:
        yield Part(
            name="allocator's slack",
            formula=f"about {CPU_SLACK:.0%} of what a row's layers keep without checkpointing",
            num_bytes=CPU_SLACK * row_bytes(recipe, shape),
            phase="learning",
        )


def _gpu_runtime(name: str, recipe: Recipe) -> Iterator[Part]:
    yield Part(
        name="CUDA context", formula="about: the driver's state and torch's kernels", num_bytes=CUDA_CONTEXT_BYTES
    )
    groups = _num_groups(name, recipe)
    if groups:
        yield Part(
            name="NCCL's buffers",
            formula=f"about {groups} group{'' if groups == 1 else 's'} x 32 channels x 2 x 4 MiB",
            num_bytes=groups * NCCL_GROUP_BYTES,
        )


def _num_groups(name: str, recipe: Recipe) -> int:
    """Groups of processes that a process belongs to: its mesh's dimensions, all together, and for publishing."""
    sizes, rollout = recipe.parallel, recipe.rollout
    dimensions = (sizes.replicate, sizes.shard, sizes.tensor, sizes.context, sizes.pipeline)
    groups = 0
    if "learner" in name and sizes.num_processes > 1:
        groups += 1 + sum(size > 1 for size in dimensions)
    if "engine" in name and rollout.tensor_parallel > 1:
        groups += 1
    return groups + (rollout.num_engines > 0)


def _parcel(recipe: Recipe, shape: ModelShape, device: Device) -> Place:
    """The published weights in shared memory, from which every engine of this machine loads."""
    each = ITEM_BYTES[recipe.learner.dtype]
    part = Part(
        name="published weights",
        formula=f"{shape.num_parameters:,} x {each} bytes",
        num_bytes=shape.num_parameters * each,
    )
    account = Account(parts=(part,), capacity=device.num_bytes, kv_tokens=None, longest=longest_sample(recipe))
    return Place(name="shared memory", count=1, account=account)
