"""What ``grpo plan`` says: the memory of each process on the GPUs named, what fits, what to change.

Imports no torch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from grpo.errors import ModelError, RecipeError, UserError
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
from grpo.parallel_sizes import (
    GPUS_PER_NODE,
    check_parallel,
    engine_gpus,
    fewest_nodes,
    gpus_used,
    is_one_process,
    learner_sizes,
    proposals,
    sizes_on,
)
from grpo.recipe import Recipe, with_overrides


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``grpo plan`` prints, and whether the run fits on what was named."""

    text: str
    needs: Needs
    overrides: tuple[str, ...]  # what the plan has otherwise than the recipe

    @property
    def fits(self) -> bool:
        return self.needs.fits

    def to_json(self) -> dict[str, Any]:
        """For programs: bytes of each kind of process, part by part, and the text's lines."""
        device = self.needs.device
        return {
            "fits": self.fits,
            "num_gpus": device.num_gpus,
            "capacity_bytes": device.num_bytes,
            "shortage_bytes": self.needs.shortage,
            "overrides": list(self.overrides),
            "places": [
                {
                    "name": place.name,
                    "count": place.count,
                    "total_bytes": place.account.total,
                    "parts": [asdict(part) for part in place.account.parts],
                }
                for place in self.needs.places
            ],
            "lines": self.text.splitlines(),
        }


def plan_of(recipe: Recipe, gpus: str) -> Plan:
    """The plan of a recipe on ``gpus``: such as 8xH100, 8x96GB, or cpu for this machine.

    A recipe for another number of GPUs is planned with sizes for these, which the first line says.

    Raises:
        UserError: ``gpus`` names nothing that is known, or a number that the recipe's other sizes do not go with.
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
    overrides = _sizes_for(recipe, shape, device, gpus)
    planned = with_overrides(recipe, overrides)
    check_parallel(planned, shape)
    chosen = list(_chosen(recipe, planned, device, overrides))
    lines = [*chosen, *account_lines(planned, shape, device, overrides if chosen else ())]
    return Plan("\n".join(lines), needs_of(planned, shape, device), tuple(overrides) if chosen else ())


def account_lines(recipe: Recipe, shape: ModelShape, device: Device, proposed: Sequence[str] = ()) -> Iterator[str]:
    """Who holds what, whether it fits, and what to change; also the memory section of ``grpo check``.

    ``proposed``: overrides that the recipe here has, and the reader's has not.
    """
    needs = needs_of(recipe, shape, device)
    yield from _heading(recipe, shape, device)
    yield from _table(needs)
    yield ""
    yield from _verdict(recipe, shape, needs, proposed)


def _sizes_for(recipe: Recipe, shape: ModelShape, device: Device, gpus: str) -> tuple[str, ...]:
    """Overrides with which the recipe is one for the device; ``gpus``: as the reader named it."""
    if is_one_process(recipe) and device.num_gpus > 1:
        return _first_that_fits(recipe, shape, device)
    if not device.is_gpu or is_one_process(recipe) or recipe.num_gpus == device.num_gpus:
        return (f"num_gpus={device.num_gpus}",)
    sizes = sizes_on(recipe, device.num_gpus)
    if not sizes:
        used, engines = gpus_used(recipe), engine_gpus(recipe)
        raise UserError(
            f"--gpus {gpus} names {_count(device.num_gpus, 'GPU')}, and the recipe's sizes need {used} ({engines} for "
            f"engines + {used - engines} for the learner); no other parallel.shard makes them go on that many. "
            f"Use --gpus {used}x{gpus.removeprefix(f'{device.num_gpus}x')}, or change the other sizes"
        )
    return sizes


def _chosen(recipe: Recipe, planned: Recipe, device: Device, overrides: Sequence[str]) -> Iterator[str]:
    """What the plan has otherwise than the recipe."""
    was = "one process" if is_one_process(recipe) else _count(recipe.num_gpus or gpus_used(recipe), "GPU")
    if recipe.num_gpus and not device.is_gpu:
        gpus = _count(recipe.num_gpus, "GPU")
        yield f"the recipe is for {gpus}; this plan is for {device.name}, without GPUs (name them with --gpus)"
        return
    as_it_is = recipe.model_copy(update={"num_gpus": recipe.num_gpus or planned.num_gpus})
    if device.is_gpu and planned != as_it_is:
        yield f"the recipe is for {was}; sizes for {_count(device.num_gpus, 'GPU')}: {' '.join(overrides)}"


def _first_that_fits(recipe: Recipe, shape: ModelShape, device: Device) -> tuple[str, ...]:
    """The first proposal that fits; else the one that comes nearest.

    Raises:
        RecipeError: the model goes with none of them.
    """
    tried: list[tuple[float, tuple[str, ...]]] = []
    refusal: RecipeError | None = None
    for overrides in proposals(device.num_gpus):
        try:
            changed = with_overrides(recipe, overrides)
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
        each = "each on" if rollout.num_engines > 1 else "on"
        split = f" {each} {rollout.tensor_parallel} GPUs" if rollout.tensor_parallel > 1 else ""
        engines = f"{_count(rollout.num_engines, 'engine')}{split}"
    else:
        engines = "the engine inside it"
    used = gpus_used(recipe)
    of = f"{used} of " if used < device.num_gpus else ""
    where = f"{of}{device.num_gpus} x {device.name} ({device.num_bytes / GB:g} GB)" if device.is_gpu else device.name
    yield f"on {where}: {learner}, {engines}"
    if device.is_gpu:
        yield from _on_nodes(recipe, device.num_gpus)


def _on_nodes(recipe: Recipe, num_gpus: int) -> Iterator[str]:
    """Which processes stand on which node, where one node is too few; that no nodes hold them, where that is so."""
    used, engines = gpus_used(recipe), engine_gpus(recipe)
    if used <= GPUS_PER_NODE:
        return
    nodes, most = fewest_nodes(recipe), max(used, num_gpus)
    if nodes is None or nodes > math.ceil(most / GPUS_PER_NODE):
        sizes = sizes_on(recipe, most)
        beside = f", and the first the engines' {_count(engines, 'GPU')} besides" if engines else ""
        fix = f". Use {' '.join(sizes)}" if sizes else ""
        number = math.ceil(most / GPUS_PER_NODE)
        which = f"{number} nodes of {GPUS_PER_NODE} GPUs"
        yield f"{which} do not hold them: each has as many learner processes{beside}{fix}"
        return
    beside = f", the engines' {_count(engines, 'GPU')} on the first" if engines else ""
    each = _count(recipe.parallel.num_processes // nodes, "learner process")
    yield f"{nodes} nodes of {GPUS_PER_NODE} GPUs: {each} on each{beside} (`grpo launch slurm --nodes {nodes}`)"


def _where(place: Place, device: Device) -> str:
    if place.name == "shared memory":
        return "shared memory of the machine"
    each = "each of " if place.count > 1 else ""
    if device.is_gpu:
        return f"{place.name}: on {each}{_count(place.count, 'GPU')}"
    return f"{place.name}: in {each}{_count(place.count, 'process')}"


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
        if device.is_gpu:
            yield from _on_nodes(with_overrides(recipe, overrides), device.num_gpus)
    else:
        tried = f" (with {' '.join(overrides)} it is {_gigabytes(then.total).strip()})" if overrides else ""
        yield f"no setting makes room{tried}: use a smaller model, shorter answers or larger GPUs"


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / GB:8.2f} GB"
