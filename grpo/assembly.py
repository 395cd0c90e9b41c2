"""The learner and the engine that a recipe asks for: how many processes, on which devices, in which number formats."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from grpo.crew import Crew
from grpo.engine import make_engine
from grpo.engine.fleet import EngineFleet
from grpo.engine.protocol import Engine
from grpo.engine.replica import Start
from grpo.engine.server_engine import ServerEngine
from grpo.engine.tool_engine import ToolEngine
from grpo.errors import RecipeError, UserError
from grpo.learner import Learner
from grpo.learner.mesh import ALONE, Mesh
from grpo.learner.team import Leader, Origin, join, leave
from grpo.models import resolve_model
from grpo.precision import arithmetic_dtype
from grpo.prompts import Prompts
from grpo.python_tool import PythonTool
from grpo.recipe import Recipe
from rewards.sandbox_program import SandboxUnavailableError


def device_of(recipe: Recipe) -> str:
    return "cuda" if recipe.num_gpus else "cpu"


def arithmetic_of(recipe: Recipe) -> torch.dtype:
    """What the learner computes in."""
    return arithmetic_dtype(getattr(torch, recipe.learner.dtype), on_gpu=recipe.num_gpus > 0)


def engine_dtype_of(recipe: Recipe) -> str:
    """What the recipe says, and else as the learner computes."""
    return recipe.rollout.engine_dtype or str(arithmetic_of(recipe)).removeprefix("torch.")


def is_exact(recipe: Recipe) -> bool:
    """Whether both sides compute in fp32, so that the probe must agree to 1e-4 nats."""
    return arithmetic_of(recipe) is torch.float32 and engine_dtype_of(recipe) == "float32"


def window_of(recipe: Recipe) -> int:
    """Tokens of the longest prompt with the longest answer."""
    return recipe.rollout.max_prompt_length + recipe.rollout.max_completion_length


def origin_of(recipe: Recipe, checkpoint: Path | None) -> Origin:
    """Where the policy comes from: the checkpoint, or the recipe's model."""
    return Origin(
        path=str(checkpoint) if checkpoint else resolve_model(recipe.model),
        dtype=getattr(torch, recipe.learner.dtype),
        arithmetic=arithmetic_of(recipe),
        device=device_of(recipe),
        gradient_checkpointing=recipe.learner.gradient_checkpointing,
    )


def check_devices(recipe: Recipe) -> None:
    """Raises UserError where the recipe asks for GPUs that are not here, or a launcher started too few processes."""
    available = torch.cuda.device_count()
    launched, wanted = int(os.environ.get("WORLD_SIZE", "1")), recipe.parallel.num_processes
    if recipe.num_gpus > available and launched == 1:
        raise UserError(
            f"recipe key 'num_gpus' = {recipe.num_gpus}, and this machine has {available} that torch can use. Set "
            f"num_gpus={available}, or run it where they are (`grpo check` says how much memory the recipe needs)"
        )
    if launched not in (1, wanted):
        sizes = recipe.parallel.model_dump()
        raise RecipeError(
            "parallel",
            {name: size for name, size in sizes.items() if name != "timeout_s" and size != 1},
            f"makes {wanted} learner processes, and the launcher (WORLD_SIZE) has started {launched}",
            f"Start {wanted}, or change the sizes so that their product is {launched}.",
        )


@contextlib.contextmanager
def learner_of(recipe: Recipe, checkpoint: Path | None, mesh: Mesh | None, *, logs: Path) -> Iterator[Learner]:
    """The learner: this process, or the first of several.

    ``mesh``: of the processes that a launcher has started; absent: this one starts the others.
    """
    torch.manual_seed(recipe.seed)
    origin, device = origin_of(recipe, checkpoint), device_of(recipe)
    if recipe.parallel.num_processes == 1:
        yield Learner(origin.load(ALONE), recipe)
        return
    with contextlib.ExitStack() as stack:
        crew: Crew | None = None
        obituaries: Callable[[], str] = str
        stack.callback(leave)  # last, for it may wait for others of the group
        if mesh is None:
            crew = Crew(recipe, device=device, logs=logs)
            stack.callback(crew.close)
            mesh, obituaries = join(recipe, crew.membership, device=device), crew.obituaries
        leader = Leader(origin, recipe, mesh, obituaries)
        yield leader
        leader.dismiss()
        if crew is not None:
            crew.close(dismissed=True)


@contextlib.contextmanager
def engine_of(
    recipe: Recipe,
    prompts: Prompts,
    source: str,
    module: torch.nn.Module | None,
    *,
    logs: Path,
    report: Callable[[str], None],
) -> Iterator[Engine]:
    """An engine over the weights at ``source``: in this process, or several in processes of their own.

    Args:
        module: the learner's live model, which the transformers engine samples from.
        logs: folder for what engines in processes of their own write.
        report: is told what befalls them.
    """
    engine: Engine | None = None
    if recipe.rollout.servers:
        engine = _servers(recipe, prompts, report)
    elif recipe.rollout.num_engines:
        engine = _fleet(recipe, prompts, source, logs, report)
    engine = engine or make_engine(
        model=source,
        module=module,
        rollout=recipe.rollout,
        dtype=engine_dtype_of(recipe),
        max_model_len=window_of(recipe),
        decode=prompts.decode,
        on_gpu=recipe.num_gpus > 0,
        seed=recipe.seed,
        engine_args=recipe.engine.args,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        if recipe.rollout.tool is not None:
            engine = _with_tool(engine, recipe, prompts)
            stack.pop_all()
            stack.callback(engine.close)
        yield engine


def _servers(recipe: Recipe, prompts: Prompts, report: Callable[[str], None]) -> Engine:
    """They were started with the recipe's model, and get a resumed run's weights with the first publish."""
    return ServerEngine(
        recipe.rollout.servers,
        model=resolve_model(recipe.model),
        rollout=recipe.rollout,
        dtype=engine_dtype_of(recipe),
        max_model_len=window_of(recipe),
        decode=prompts.decode,
        on_gpu=recipe.num_gpus > 0,
        seed=recipe.seed,
        report=report,
    )


def _fleet(recipe: Recipe, prompts: Prompts, source: str, logs: Path, report: Callable[[str], None]) -> Engine:
    """Engines in processes of their own; on GPUs they have those that come after the learner's on the first node."""
    number, each = recipe.rollout.num_engines, recipe.rollout.tensor_parallel
    first = int(os.environ.get("LOCAL_WORLD_SIZE", recipe.parallel.num_processes))
    if recipe.num_gpus and first + number * each > torch.cuda.device_count():
        raise RecipeError(
            "rollout.num_engines",
            number,
            f"the engines' GPUs ({number} x {each}) come after the {first} learner processes on the first node, and it "
            f"has {torch.cuda.device_count()} in all",
            "Start fewer learner processes there, or set rollout.num_engines or rollout.tensor_parallel lower.",
        )
    devices = [tuple(range(first + i * each, first + (i + 1) * each)) for i in range(number)]
    return EngineFleet(
        Start(
            model=source,
            rollout=recipe.rollout,
            dtype=engine_dtype_of(recipe),
            max_model_len=window_of(recipe),
            on_gpu=recipe.num_gpus > 0,
            seed=recipe.seed,
            engine_args=recipe.engine.args,
        ),
        num_replicas=number,
        decode=prompts.decode,
        logs=logs,
        num_threads=max(1, len(os.sched_getaffinity(0)) // (number * each)),
        devices=devices if recipe.num_gpus else (),
        report=report,
    )


def _with_tool(engine: Engine, recipe: Recipe, prompts: Prompts) -> ToolEngine:
    num_workers = recipe.scoring.num_workers
    try:
        tool = PythonTool(num_workers=num_workers)
    except SandboxUnavailableError as error:
        raise UserError(f"recipe key 'rollout.tool' = {recipe.rollout.tool!r}: {error}") from error
    return ToolEngine(
        engine,
        tool,
        encode=prompts.encode_text,
        decode=prompts.decode,
        max_calls=recipe.rollout.max_tool_calls,
        num_threads=num_workers,
    )
