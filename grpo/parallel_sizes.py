"""Whether the sizes under ``parallel`` and ``rollout`` divide the model and use the GPUs. Imports no torch.

A node's launcher starts as many learner processes as every other's, each on a GPU of its own; the first of all starts
the engines, on the GPUs of its node that are left. So engines' GPUs leave as many idle on each of the other nodes.
"""

import math
from collections.abc import Iterator

from grpo.errors import RecipeError
from grpo.model_shape import EXACT, ModelShape
from grpo.recipe import Recipe, with_overrides

GPUS_PER_NODE = 8  # where nobody says otherwise
ENGINES_OWN_SHARE = 0.9  # of the memory of GPUs that engines have to themselves
DIMENSIONS = ("replicate", "shard", "tensor", "context", "pipeline")  # whose product is the number of processes


def learner_sizes(recipe: Recipe) -> dict[str, int]:
    """The dimensions that the learner's processes really have."""
    sizes = {name: int(getattr(recipe.parallel, name)) for name in DIMENSIONS}
    return {name: size for name, size in sizes.items() if size > 1}


def is_one_process(recipe: Recipe) -> bool:
    """Learner and engine share the one process, so that the recipe says nothing about several GPUs."""
    rollout = recipe.rollout
    alone = recipe.parallel.num_processes == 1 and rollout.num_engines == 0 and rollout.tensor_parallel == 1
    return alone and not rollout.servers


def engine_gpus(recipe: Recipe) -> int:
    return recipe.rollout.num_engines * recipe.rollout.tensor_parallel


def gpus_used(recipe: Recipe) -> int:
    """What the sizes make up, whatever ``num_gpus`` is."""
    return recipe.parallel.num_processes + engine_gpus(recipe)


def most_learners(num_gpus: int, engines: int, *, multiple: int = 1, gpus_per_node: int = GPUS_PER_NODE) -> int:
    """The most learner processes that go beside the engines' GPUs on ``num_gpus`` GPUs; 0 where none do.

    Args:
        multiple: of which their number must be one.

    >>> most_learners(16, engines=2)  # six on each of two nodes, and the engines' two on the first
    12
    """
    nodes = math.ceil(num_gpus / gpus_per_node)
    room = min(nodes * (gpus_per_node - engines), num_gpus - engines)
    step = math.lcm(nodes, multiple)
    return max(0, room // step) * step


def fewest_nodes(recipe: Recipe, gpus_per_node: int = GPUS_PER_NODE) -> int | None:
    """The smallest number of nodes that holds a run; None where none does."""
    learners, beside = recipe.parallel.num_processes, gpus_per_node - engine_gpus(recipe)
    return next((n for n in range(1, learners + 1) if learners % n == 0 and learners // n <= beside), None)


def sizes_on(recipe: Recipe, num_gpus: int, gpus_per_node: int = GPUS_PER_NODE) -> tuple[str, ...]:
    """Overrides that make a recipe one for ``num_gpus`` GPUs, and leave idle as few as its engines allow.

    They change ``parallel.shard`` alone, and ``num_gpus`` with it; a recipe for one process gets the first of the
    proposals. Empty where there are none.

    >>> from grpo.recipe import SHIPPED, load_recipe
    >>> sizes_on(load_recipe(SHIPPED / "r1_zero.yaml"), 16)
    ('num_gpus=14', 'parallel.shard=12')
    """
    if is_one_process(recipe):
        return next((each for each in proposals(num_gpus, gpus_per_node) if _is_recipe(recipe, each)), ())
    engines, sizes = engine_gpus(recipe), recipe.parallel
    others = sizes.num_processes // sizes.shard
    learners = most_learners(num_gpus, engines, multiple=others, gpus_per_node=gpus_per_node)
    return (f"num_gpus={learners + engines}", f"parallel.shard={learners // others}") if learners else ()


def _is_recipe(recipe: Recipe, overrides: tuple[str, ...]) -> bool:
    try:
        with_overrides(recipe, overrides)
    except RecipeError:
        return False
    return True


def proposals(num_gpus: int, gpus_per_node: int = GPUS_PER_NODE) -> Iterator[tuple[str, ...]]:
    """Overrides that use ``num_gpus`` GPUs, those first that cost least: engines on a quarter of the first node's.

    The rest shard the learner. Engines are split over more GPUs each only after those of fewer, and then engines have
    half of the node. On several nodes a few GPUs stay idle.

    >>> next(proposals(8))
    ('num_gpus=8', 'parallel.shard=6', 'rollout.num_engines=2', 'rollout.gpu_memory_utilization=0.9')
    """
    for part in (4, 2):
        for split in (1, 2, 4, 8):
            engines = max(1, min(num_gpus, gpus_per_node) // part // split)
            learners = most_learners(num_gpus, engines * split, gpus_per_node=gpus_per_node)
            if not learners:
                continue
            own = [f"rollout.tensor_parallel={split}"] if split > 1 else []
            yield (
                f"num_gpus={learners + engines * split}",
                f"parallel.shard={learners}",
                f"rollout.num_engines={engines}",
                *own,
                f"rollout.gpu_memory_utilization={ENGINES_OWN_SHARE}",
            )


def check_parallel(recipe: Recipe, shape: ModelShape | None) -> None:
    """Refuse sizes that the model or the GPUs cannot be divided into, before anything loads.

    Args:
        shape: of the model; None where it is not known yet, and then only the GPUs are counted.

    Raises:
        RecipeError: the first size that does not fit.
    """
    _check_gpus(recipe)
    if shape is None:
        return
    _check_family(recipe, shape)
    _check_expert(recipe, shape)
    _check_tensor(recipe, shape)
    _check_divides("parallel.pipeline", recipe.parallel.pipeline, shape.num_layers, "layers")
    _check_engine(recipe, shape)


def _check_gpus(recipe: Recipe) -> None:
    """The learner's processes and the engines' are the run's GPUs; on a CPU any number may run."""
    sizes, rollout = recipe.parallel, recipe.rollout
    if not rollout.num_engines and rollout.tensor_parallel > 1:
        raise RecipeError(
            "rollout.tensor_parallel",
            rollout.tensor_parallel,
            "must be 1 where rollout.num_engines is 0: an engine inside a learner's process has one GPU",
            "Set rollout.num_engines=1 for an engine with GPUs of its own.",
        )
    engines = engine_gpus(recipe)
    if recipe.num_gpus in (0, gpus_used(recipe)):
        return
    product = " x ".join(f"{name} {size}" for name, size in learner_sizes(recipe).items()) or "all sizes 1"
    said = f"{engines} for engines ({rollout.num_engines} x {rollout.tensor_parallel}) + " if engines else ""
    asked = {f"num_gpus={recipe.num_gpus}", f"parallel.shard={sizes.shard}"}
    changes = [change for change in sizes_on(recipe, recipe.num_gpus) if change not in asked]
    raise RecipeError(
        "num_gpus",
        recipe.num_gpus,
        f"must be what the sizes make up: {said}{sizes.num_processes} for the learner ({product})",
        f"Use {' '.join(changes or [f'num_gpus={gpus_used(recipe)}'])}, say.",
    )


def _check_family(recipe: Recipe, shape: ModelShape) -> None:
    if recipe.parallel.num_processes > 1 and shape.model_type not in EXACT:
        raise RecipeError(
            "model",
            recipe.model,
            f"is a {shape.model_type or 'model of no type'}, whose parts several processes do not know how to share",
            f"Use one of {', '.join(EXACT)}, or leave every size under parallel at 1.",
        )


def _check_expert(recipe: Recipe, shape: ModelShape) -> None:
    expert = recipe.parallel.expert
    if expert == 1:
        return
    if not shape.num_experts:
        raise RecipeError("parallel.expert", expert, f"must be 1: {recipe.model} has no experts", "Leave it out.")
    _check_divides("parallel.expert", expert, shape.num_experts, "experts")


def _check_tensor(recipe: Recipe, shape: ModelShape) -> None:
    tensor = recipe.parallel.tensor
    _check_divides("parallel.tensor", tensor, shape.num_heads, "attention heads")
    _check_divides("parallel.tensor", tensor, shape.num_kv_heads, "key and value heads")
    if recipe.parallel.expert == 1:
        what = "columns of an expert" if shape.num_experts else "columns of the MLP"
        _check_divides("parallel.tensor", tensor, shape.intermediate_size, what)


def _check_engine(recipe: Recipe, shape: ModelShape) -> None:
    """vLLM copies a key and value head to several GPUs, but does not cut one; its CPU kernels cut experts only."""
    split = recipe.rollout.tensor_parallel
    if recipe.rollout.expert_parallel:
        _check_engine_expert(recipe, shape)
    elif shape.num_experts:
        _check_divides("rollout.tensor_parallel", split, shape.intermediate_size, "columns of an expert")
    _check_divides("rollout.tensor_parallel", split, shape.num_heads, "attention heads")
    if split % shape.num_kv_heads:
        _check_divides("rollout.tensor_parallel", split, shape.num_kv_heads, "key and value heads")


def _check_engine_expert(recipe: Recipe, shape: ModelShape) -> None:
    wrong = ""
    if not shape.num_experts:
        wrong = f"must be false: {recipe.model} has no experts"
    elif not recipe.num_gpus:
        wrong = "must be false on a CPU, where vLLM's kernels take no account of which experts a process holds"
    elif recipe.rollout.tensor_parallel == 1:
        wrong = "must be false where rollout.tensor_parallel is 1: there is nobody to share the experts with"
    if wrong:
        raise RecipeError("rollout.expert_parallel", True, wrong, "Leave it out.")
    _check_divides("rollout.tensor_parallel", recipe.rollout.tensor_parallel, shape.num_experts, "experts")


def _check_divides(key: str, size: int, whole: int, what: str) -> None:
    if whole % size == 0:
        return
    allowed = [n for n in range(1, whole + 1) if whole % n == 0]
    nearest = min(allowed, key=lambda n: (abs(n - size), n))
    raise RecipeError(key, size, f"must divide the model's {whole} {what}", f"Use {nearest}, say.")
