"""Whether the sizes under ``parallel`` and ``rollout`` divide the model and use the GPUs. Imports no torch."""

from collections.abc import Iterator

from grpo.errors import RecipeError
from grpo.model_shape import EXACT, ModelShape
from grpo.recipe import Recipe

ENGINES_OWN_SHARE = 0.9  # of the memory of GPUs that engines have to themselves
DIMENSIONS = ("replicate", "shard", "tensor", "context", "pipeline")  # whose product is the number of processes


def learner_sizes(recipe: Recipe) -> dict[str, int]:
    """The dimensions that the learner's processes really have."""
    sizes = {name: int(getattr(recipe.parallel, name)) for name in DIMENSIONS}
    return {name: size for name, size in sizes.items() if size > 1}


def proposals(num_gpus: int) -> Iterator[tuple[str, ...]]:
    """Overrides that use ``num_gpus`` GPUs of one node, those first that cost least: engines on a quarter of them.

    The rest shard the learner. Engines are split over more GPUs each only after those of fewer, and then engines have
    half of all GPUs.

    >>> next(proposals(8))
    ('num_gpus=8', 'parallel.shard=6', 'rollout.num_engines=2', 'rollout.gpu_memory_utilization=0.9')
    """
    splits = [split for split in (1, 2, 4, 8) if split < num_gpus]
    for part in (4, 2):
        for split in splits:
            engines = max(1, num_gpus // part // split)
            if engines * split >= num_gpus:
                continue
            own = [f"rollout.tensor_parallel={split}"] if split > 1 else []
            yield (
                f"num_gpus={num_gpus}",
                f"parallel.shard={num_gpus - engines * split}",
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
    engines = rollout.num_engines * rollout.tensor_parallel
    if not recipe.num_gpus or sizes.num_processes + engines == recipe.num_gpus:
        return
    product = " x ".join(f"{name} {size}" for name, size in learner_sizes(recipe).items()) or "all sizes 1"
    said = f"{engines} for engines ({rollout.num_engines} x {rollout.tensor_parallel}) + " if engines else ""
    left = recipe.num_gpus - engines
    rest = sizes.num_processes // sizes.shard
    fix = f"Use parallel.shard={left // rest}, say." if left > 0 and left % rest == 0 else ""
    raise RecipeError(
        "num_gpus",
        recipe.num_gpus,
        f"must be what the sizes make up: {said}{sizes.num_processes} for the learner ({product})",
        fix or f"Use num_gpus={sizes.num_processes + engines}.",
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
