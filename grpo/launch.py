"""Builds the parts of a run and puts them together: processes, devices, seeds, files."""

import contextlib
import functools
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import transformers

from grpo.assembly import (
    arithmetic_of,
    check_devices,
    device_of,
    engine_of,
    is_exact,
    learner_of,
    origin_of,
)
from grpo.buffer import Buffer
from grpo.check import check_window
from grpo.checkpoint import newest_complete
from grpo.checkpoint_store import CheckpointStore, Retention
from grpo.console import Console
from grpo.data import Dataset
from grpo.engine.protocol import Engine
from grpo.errors import CheckpointError, UserError
from grpo.evaluation import Evaluation
from grpo.learner import Learner
from grpo.learner.mesh import ALONE, Mesh
from grpo.learner.team import Membership, follow, join
from grpo.material import Material, material_of
from grpo.metrics import Metrics
from grpo.model_shape import read_shape
from grpo.models import resolve_model
from grpo.parallel_sizes import check_parallel
from grpo.prompts import Prompts
from grpo.recipe import Recipe, check_resumable, parse_recipe, to_yaml
from grpo.rollout import Rollout
from grpo.run_folder import RECIPE, RunFolder, nearest_run
from grpo.sinks import JsonlSink, trackers
from grpo.surroundings import data_record, surroundings
from grpo.trainer import Trainer
from grpo.weights import Publisher

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last: a job script's, which no launcher acts upon

transformers.utils.logging.disable_progress_bar()  # loading and saving are told in the run's own words


def train(recipe: Recipe, *, resume: bool, allow_change: bool = False, quiet: bool = False) -> Evaluation | None:
    """Run a recipe to its end; returns the evaluation after training, in the first of a launcher's processes.

    Args:
        resume: go on from the newest whole checkpoint of ``output_dir``, if there is one.
        allow_change: go on though recipe, data or packages are others than when the run was begun; it is said.
        quiet: print warnings and the closing table alone.

    Raises:
        UserError: something to mend in the recipe, its data or this machine; no run folder is left behind.
        RunError: the run cannot go on; ``--resume`` goes on from its last checkpoint.
    """
    mesh = _joined(recipe)
    if mesh is not None and mesh.rank > 0:
        follow(recipe, mesh)
        return None
    with run_of(recipe, resume=resume, allow_change=allow_change, quiet=quiet, mesh=mesh) as trainer:
        with _first_interrupt_stops(trainer):
            after = trainer.train()
        before = trainer.progress.before
        trainer.console.summary(Evaluation.from_json(before) if before else None, after, trainer.folder.path)
    return after


def _joined(recipe: Recipe) -> Mesh | None:
    """The learner's mesh where a launcher started this process; the others wait there, so it is joined first of all."""
    check_devices(recipe)
    shape = read_shape(recipe.model)
    check_parallel(recipe, shape)
    if shape is not None:
        check_window(recipe, shape)
    launched = Membership.from_launcher()
    return None if launched is None else join(recipe, launched, device=device_of(recipe))


@contextlib.contextmanager
def run_of(
    recipe: Recipe, *, resume: bool, allow_change: bool = False, quiet: bool = False, mesh: Mesh | None = None
) -> Iterator[Trainer]:
    """A run's trainer, ready for its next step, with all that it needs; taken down at the end."""
    started_at = time.monotonic()
    with contextlib.ExitStack() as stack:
        material = stack.enter_context(material_of(recipe))
        material.check_prompts()
        folder = stack.enter_context(_run_folder(recipe, resume))
        checkpoints = CheckpointStore(folder.checkpoints, retention=_retention(recipe))
        checkpoint = checkpoints.latest() if resume else None
        changes: list[str] = []
        if resume and checkpoint is None:
            _refuse_to_empty(folder, checkpoints, recipe)
        if resume and not folder.is_new:
            before = parse_recipe((folder.path / RECIPE).read_text(encoding="utf-8"))
            changes = check_resumable(before, recipe, allow_change=allow_change)
        folder.write_recipe(to_yaml(recipe))
        console = Console(recipe.max_steps, first_step=_step_of(checkpoint), quiet=quiet)
        stack.callback(console.close)
        with console.busy("loading the model"):
            learner = stack.enter_context(learner_of(recipe, checkpoint, mesh, logs=folder.logs))
        source, module = origin_of(recipe, checkpoint).path, learner.policy.model
        with console.busy("starting the engine"):
            engine = stack.enter_context(
                engine_of(recipe, material.prompts, source, module, logs=folder.logs, report=console.say)
            )
        if resume and checkpoint is None:
            console.say(_without_checkpoint(folder))
        _say_start(console, recipe, material.dataset, checkpoints, checkpoint)
        for change in changes:
            console.say(f"allowed: {change}")
        trainer = _trainer(material, learner, engine, folder, checkpoints, checkpoint, console)
        stack.callback(trainer.metrics.close)
        if checkpoint is not None:
            trainer.restore(checkpoint, allow_change=allow_change)
        elif resume:
            folder.truncate({})
        trainer.started_at = started_at
        folder.write_data(data_record(material.dataset, recipe.seed, trainer.surroundings))
        with checkpoints:
            yield trainer


def evaluate_model(target: str, recipe: Recipe) -> Evaluation:
    """Evaluate a model, or the newest checkpoint of a run folder, on a recipe's held-out problems.

    Raises:
        UserError: ``target`` is neither, or something in the recipe is to mend.
    """
    check_devices(recipe)
    recipe = over_model(recipe, target)
    with material_of(recipe) as material, engine_alone(recipe, material.prompts) as engine:
        return material.evaluate(engine)


def over_model(recipe: Recipe, target: str) -> Recipe:
    """The recipe over another model: the one at ``target``, or the newest whole checkpoint of the run folder there.

    Raises:
        UserError: ``target`` is a run folder without a whole checkpoint.
    """
    checkpoints = Path(target) / "checkpoints"
    report = functools.partial(print, "checkpoint passed over:", file=sys.stderr)
    checkpoint = newest_complete(checkpoints, report) if checkpoints.is_dir() else None
    if checkpoint is None and (Path(target) / RECIPE).is_file():
        raise UserError(
            f"run '{target}' has no whole checkpoint: nothing that it learned is on the disk. Train on "
            f"(checkpoint.every says how often it saves), or name the model that it began with: {recipe.model}"
        )
    own = recipe.rollout.model_copy(update={"servers": []})  # servers hold another model
    return recipe.model_copy(update={"model": str(checkpoint or target), "rollout": own})


@contextlib.contextmanager
def engine_alone(recipe: Recipe, prompts: Prompts) -> Iterator[Engine]:
    """An engine over the recipe's model, with no learner beside it."""
    module = None  # vLLM loads the weights for itself
    if recipe.rollout.engine == "transformers":
        module = origin_of(recipe, None).load(ALONE).model
    source, say = resolve_model(recipe.model), functools.partial(print, file=sys.stderr)
    with (
        tempfile.TemporaryDirectory() as logs,
        engine_of(recipe, prompts, source, module, logs=Path(logs), report=say) as engine,
    ):
        yield engine


def show_evaluation(evaluation: Evaluation, target: str) -> None:
    """Print the table of one evaluation."""
    Console(0).summary(None, evaluation, Path(target))


def _trainer(
    material: Material,
    learner: Learner,
    engine: Engine,
    folder: RunFolder,
    checkpoints: CheckpointStore,
    checkpoint: Path | None,
    console: Console,
) -> Trainer:
    recipe = material.recipe
    if recipe.rollout.servers:  # they may hold an earlier run's weights, and then answer nobody
        engine.load(learner.named_tensors(), 0)
    next_step = _step_of(checkpoint) + 1 if checkpoint else 0
    reported = trackers(recipe, folder.path, next_step=next_step, report=console.say)
    return Trainer(
        recipe=recipe,
        rollout=Rollout(
            engine=engine,
            prompt_at=material.prompt_at,
            score_all=material.scorer.score_all,
            sampling=material.sampling(),
            num_generations=recipe.rollout.num_generations,
            seed=recipe.seed,
        ),
        buffer=Buffer(
            groups_per_step=recipe.rollout.problems_per_step,
            max_staleness=recipe.rollout.max_staleness,
            max_refill_groups=recipe.rollout.max_refill_groups,
            max_steps=recipe.max_steps,
        ),
        learner=learner,
        publisher=Publisher(learner, engine, material.probes(), exact=is_exact(recipe)),
        evaluate=lambda: material.evaluate(engine),
        source=material.dataset.held_out[0].source,
        take_side_metrics=lambda: material.take_side_metrics(engine),
        save_model=lambda path: material.save_model(learner, path),
        folder=folder,
        checkpoints=checkpoints,
        metrics=Metrics([JsonlSink(folder.metrics), console, *reported]),
        console=console,
        surroundings=surroundings(material.dataset) | material.prompts.fingerprint(),
    )


@contextlib.contextmanager
def _run_folder(recipe: Recipe, resume: bool) -> Iterator[RunFolder]:
    """The run folder; one that nothing was recorded in goes again when the user has something to mend first."""
    folder = RunFolder(Path(recipe.output_dir), resume=resume)
    try:
        yield folder
    except UserError:
        folder.remove_if_unused()
        raise
    finally:
        folder.close()


@contextlib.contextmanager
def _first_interrupt_stops(trainer: Trainer) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM finishes the step and saves; a second one ends the run where it stands.

    Python sets and delivers signals in the main thread alone: a run in another one is not reached by any.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request_stop(*_: object) -> None:
        trainer.stop_requested = True
        for number, handler in previous.items():
            signal.signal(number, handler)
        trainer.console.say("interrupted: finishing this step, then saving (Ctrl-C again ends at once, unsaved)")

    previous = {number: signal.signal(number, request_stop) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _retention(recipe: Recipe) -> Retention:
    kept = recipe.checkpoint
    best = max if kept.greater_is_better else min
    return Retention(keep=kept.keep, every=kept.keep_every, best=best if kept.metric_for_best_model else None)


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


def _say_start(
    console: Console,
    recipe: Recipe,
    dataset: Dataset,
    checkpoints: CheckpointStore,
    checkpoint: Path | None,
) -> None:
    """What a person should know before the first step."""
    if str(arithmetic_of(recipe)) != f"torch.{recipe.learner.dtype}":
        console.note("this CPU has no bf16 products: weights are kept in bfloat16 and computed with in float32")
    for damage in checkpoints.damaged:
        console.say(f"checkpoint passed over: {damage}")
    if checkpoint is not None:
        console.note(f"resuming from {checkpoint}")
    if _step_of(checkpoint) >= recipe.max_steps:
        console.note(f"the run has all of its {recipe.max_steps} steps: nothing is left to do")
    for record in dataset.sources:
        if record.num_filtered:
            console.note(f"{record.key}.filter leaves out {record.num_filtered} of {record.num_rows} rows")
    if dataset.num_excluded:
        console.say(f"{dataset.num_excluded} rows of the data left out: {'; '.join(dataset.excluded)}")
    if dataset.num_duplicates:
        console.say(f"{dataset.num_duplicates} training rows ask a held-out question and are left out")


def _refuse_to_empty(folder: RunFolder, checkpoints: CheckpointStore, recipe: Recipe) -> None:
    """A run that had a checkpoint does not begin anew: its records would be gone.

    One that was killed before its first is whole may. That is saved beside the steps that follow, up to the next.

    Raises:
        CheckpointError: checkpoints are there and none is whole, or there is none and the run is past its second.
    """
    last, every = folder.chain.last(), recipe.checkpoint.every
    if checkpoints.damaged:
        reason = f"no checkpoint is whole ({'; '.join(checkpoints.damaged)})"
    elif last is not None and every and last["step"] > 2 * every:
        reason = f"the run has {last['step']} steps and no checkpoint"
    else:
        return
    raise CheckpointError(
        f"{folder.path}: {reason}, and beginning anew would remove the run's records. Put a checkpoint back under "
        f"{checkpoints.folder}, or start a new run in another output_dir"
    )


def _without_checkpoint(folder: RunFolder) -> str:
    """Why a resumed run begins anew, and which folder was meant where this one may be mistyped."""
    if not folder.is_new:
        return f"no checkpoint in {folder.path} to resume from: starting anew there"
    near = nearest_run(folder.path)
    return f"no run in {folder.path} to resume: starting anew there{f' (did you mean {near}?)' if near else ''}"
