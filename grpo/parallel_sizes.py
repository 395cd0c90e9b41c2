"""Whether the sizes under ``parallel`` and ``rollout`` divide the model and use the GPUs. Imports no torch."""

from grpo.errors import RecipeError
from grpo.model_shape import EXACT, ModelShape
from grpo.recipe import Recipe

DIMENSIONS = ("replicate", "shard", "tensor", "context", "pipeline")  # whose product is the number of processes


def learner_sizes(recipe: Recipe) -> dict[str, int]:
    """The dimensions that the learner's processes really have."""
    sizes = {name: int(getattr(recipe.parallel, name)) for name in DIMENSIONS}
    return {name: size for name, size in sizes.items() if size > 1}


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
    """vLLM copies a key and value head to several GPUs, but does not cut one."""
    split = recipe.rollout.tensor_parallel
    _check_divides("rollout.tensor_parallel", split, shape.num_heads, "attention heads")
    if split % shape.num_kv_heads:
        _check_divides("rollout.tensor_parallel", split, shape.num_kv_heads, "key and value heads")


def _check_divides(key: str, size: int, whole: int, what: str) -> None:
    if whole % size == 0:
        return
    allowed = [n for n in range(1, whole + 1) if whole % n == 0]
    nearest = min(allowed, key=lambda n: (abs(n - size), n))
    raise RecipeError(key, size, f"must divide the model's {whole} {what}", f"Use {nearest}, say.")
