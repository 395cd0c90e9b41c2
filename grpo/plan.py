"""What ``grpo plan`` says: the memory of each process on the GPUs named, what fits, what to change.

Imports no torch.
"""

from collections.abc import Iterator, Sequence

from grpo.errors import ModelError, RecipeError
from grpo.memory import (
    GB,
    Device,
    Needs,
    Place,
    largest_row_tokens,
    needs_of,
    parse_gpus,
    what_must_give,
)
from grpo.model_shape import EXACT, ModelShape, read_shape
from grpo.parallel_sizes import check_parallel, learner_sizes, proposals
from grpo.recipe import Recipe, with_overrides


def report(recipe: Recipe, gpus: str) -> str:
    """The plan of a recipe on ``gpus``: such as 8xH100, 8x96GB, or cpu for this machine.

    Raises:
        UserError: ``gpus`` names nothing that is known.
        RecipeError: sizes that divide neither the model nor the GPUs.
        ModelError: the model's sizes are not known here.
    """
    device = parse_gpus(gpus)
    shape = read_shape(recipe.model)
    if shape is None:
        raise ModelError(
            f"model = {recipe.model!r} is not in the hub's cache, so its sizes are not known. Download its config "
            f"first (`hf download {recipe.model} config.json`), or name a local folder"
        )
    overrides: tuple[str, ...] = (f"num_gpus={device.num_gpus}",)
    if device.num_gpus > 1 and _is_one_process(recipe):
        overrides = _sizes_for(recipe, shape, device)
        chosen = [f"the recipe is for one process; sizes for {device.num_gpus} GPUs: {' '.join(overrides)}"]
    else:
        chosen = []
    recipe = with_overrides(recipe, overrides)
    check_parallel(recipe, shape)
    return "\n".join([*chosen, *account_lines(recipe, shape, device, overrides if chosen else ())])


def account_lines(recipe: Recipe, shape: ModelShape, device: Device, proposed: Sequence[str] = ()) -> Iterator[str]:
    """Who holds what, whether it fits, and what to change; also the memory section of ``grpo check``.

    ``proposed``: overrides that the recipe here has, and the reader's has not.
    """
    needs = needs_of(recipe, shape, device)
    yield from _heading(recipe, shape, device)
    yield from _table(needs)
    yield ""
    yield from _verdict(recipe, shape, needs, proposed)


def _is_one_process(recipe: Recipe) -> bool:
    """Learner and engine share the one process, so that the recipe says nothing about several GPUs."""
    rollout = recipe.rollout
    return recipe.parallel.num_processes == 1 and rollout.num_engines == 0 and rollout.tensor_parallel == 1


def _sizes_for(recipe: Recipe, shape: ModelShape, device: Device) -> tuple[str, ...]:
    """The first proposal that fits; else the one that comes nearest.

    Raises:
        RecipeError: the model goes with none of them.
    """
    tried: list[tuple[float, tuple[str, ...]]] = []
    refusal: RecipeError | None = None
    for overrides in proposals(device.num_gpus):
        changed = with_overrides(recipe, overrides)
        try:
            check_parallel(changed, shape)
        except RecipeError as error:
            refusal = refusal or error
            continue
        needs = needs_of(changed, shape, device)
        if needs.fits:
            return overrides
        tried.append((needs.shortage, overrides))
    if not tried:
        assert refusal is not None, "there are proposals for any two GPUs"
        raise refusal
    return min(tried)[1]


def _table(needs: Needs) -> Iterator[str]:
    """Part by part: bytes and formula, of one process of each kind."""
    parts = [part for place in needs.places for part in place.account.parts]
    width = max(len(part.name) for part in parts)
    for place in needs.places:
        yield ""
        yield _where(place, needs.device)
        for part in place.account.parts:
            while_ = "" if part.phase == "always" else f" (while {part.phase})"
            yield f"  {part.name:{width}}  {_gigabytes(part.num_bytes)}  {part.formula}{while_}"
        of = f"  of {needs.device.num_bytes / GB:g} GB" if needs.device.is_gpu else ""
        yield f"  {'at the fullest moment':{width}}  {_gigabytes(place.account.total)}{of}"


def _heading(recipe: Recipe, shape: ModelShape, device: Device) -> Iterator[str]:
    exactness = "" if shape.model_type in EXACT else f" (an estimate: {shape.model_type!r} is no family counted here)"
    yield f"{recipe.model}: {shape.num_parameters:,} parameters{exactness}"
    sizes = ", ".join(f"{name} {size}" for name, size in learner_sizes(recipe).items())
    learner = f"{_count(recipe.parallel.num_processes, 'learner process')}{f' ({sizes})' if sizes else ''}"
    rollout = recipe.rollout
    if rollout.num_engines:
        split = f" of {rollout.tensor_parallel} GPUs each" if rollout.tensor_parallel > 1 else ""
        engines = f"{_count(rollout.num_engines, 'engine')}{split}"
    else:
        engines = "the engine inside it"
    where = f"{device.num_gpus} x {device.name} ({device.num_bytes / GB:g} GB)" if device.is_gpu else device.name
    yield f"on {where}: {learner}, {engines}"


def _where(place: Place, device: Device) -> str:
    if place.name == "shared memory":
        return "shared memory of the machine"
    if device.is_gpu:
        return f"{place.name}: on each of {_count(place.count, 'GPU')}"
    return f"{place.name}: in each of {_count(place.count, 'process')}"


def _verdict(recipe: Recipe, shape: ModelShape, needs: Needs, proposed: Sequence[str]) -> Iterator[str]:
    caches = [place.account.kv_tokens for place in needs.places if place.account.kv_tokens is not None]
    longest = needs.places[0].account.longest
    yield f"an engine's cache holds {min(caches):,} tokens; the longest sample has {longest:,}"
    device = needs.device
    where = (
        f"{device.num_bytes / GB:g} GB per GPU" if device.is_gpu else f"this machine's {device.num_bytes / GB:.1f} GB"
    )
    largest = largest_row_tokens(recipe, shape, device)
    if largest is not None:
        yield f"largest learner.row_tokens that fits: {largest:,} (the recipe has {recipe.learner.row_tokens:,})"
    if needs.fits:
        yield f"fits in {where}, with {_gigabytes(-needs.shortage).strip()} left over"
        return
    too_much = f"{_gigabytes(needs.shortage).strip()} too much"
    yield f"DOES NOT FIT in {where}: {too_much if needs.shortage > 0 else 'the cache is shorter than one sample'}"
    overrides, then = what_must_give(recipe, shape, device)
    if then.fits:
        changed = {override.partition("=")[0] for override in overrides}
        kept = [override for override in proposed if override.partition("=")[0] not in changed]
        yield f"fits with {' '.join([*kept, *overrides])} ({_gigabytes(then.total).strip()})"
    else:
        tried = f" (with {' '.join(overrides)} it is {_gigabytes(then.total).strip()})" if overrides else ""
        yield f"no setting makes room{tried}: use a smaller model, shorter answers or larger GPUs"


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / GB:8.2f} GB"
