"""Builds the parts of a run and puts them together: processes, devices, seeds, files."""

import contextlib
import functools
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from grpo.buffer import Buffer
from grpo.check import check_window
from grpo.checkpoint import CheckpointStore, newest_complete
from grpo.console import Console
from grpo.data import Dataset, load_data
from grpo.datatypes import Prompt
from grpo.engine import make_engine
from grpo.engine.protocol import Engine, Sampling
from grpo.engine.tool_engine import ToolEngine
from grpo.errors import UserError
from grpo.evaluate import Evaluation, evaluate
from grpo.learner import Learner, Policy
from grpo.metrics import JsonlSink, Metrics, Sink, WandbSink
from grpo.model_shape import read_shape
from grpo.models import resolve_model
from grpo.precision import arithmetic_dtype
from grpo.prompts import Prompts
from grpo.python_tool import PythonTool
from grpo.recipe import Recipe, check_resumable, parse_recipe, to_yaml
from grpo.rollout import Rollout
from grpo.run_folder import RECIPE, RunFolder
from grpo.scoring import Scorer
from grpo.trainer import Trainer
from grpo.weights import Publisher
from rewards.sandbox_program import SandboxUnavailableError

NUM_PROBES, PROBE_TOKENS = 3, 128

transformers.utils.logging.disable_progress_bar()  # loading and saving are told in the run's own words


def train(recipe: Recipe, *, resume: bool) -> Evaluation:
    """Run a recipe to its end; returns the evaluation after training.

    Raises:
        UserError: something to mend in the recipe, its data or this machine; no run folder is left behind.
        RunError: the run cannot go on; ``--resume`` goes on from its last checkpoint.
    """
    _check_devices(recipe)
    if (shape := read_shape(recipe.model)) is not None:
        check_window(recipe, shape)
    with contextlib.ExitStack() as stack:
        prompts = Prompts(recipe.model, recipe.template, max_prompt_length=recipe.rollout.max_prompt_length)
        scorer = _scorer(recipe, prompts)
        stack.callback(scorer.close)
        dataset = load_data(recipe.data, seed=recipe.seed, check_reference=scorer.check_reference)
        _check_prompts(dataset, prompts)
        folder = stack.enter_context(_run_folder(recipe, resume))
        checkpoints = CheckpointStore(folder.checkpoints, keep=recipe.checkpoint.keep)
        checkpoint = checkpoints.latest() if resume else None
        if checkpoint is not None:
            check_resumable(parse_recipe((folder.path / RECIPE).read_text(encoding="utf-8")), recipe)
        folder.write_recipe(to_yaml(recipe))
        parts = _Parts(recipe=recipe, dataset=dataset, prompts=prompts, scorer=scorer)
        with _model(recipe, prompts, checkpoint) as (policy, engine):
            console = Console(recipe.max_steps, first_step=_step_of(checkpoint))
            stack.callback(console.close)
            _say_start(console, recipe, dataset, checkpoints, checkpoint, resume)
            trainer = parts.trainer(policy, engine, folder, checkpoints, console)
            stack.callback(trainer.metrics.close)
            if checkpoint is not None:
                trainer.restore(checkpoint)
            elif resume:
                folder.truncate({})
            with _first_interrupt_stops(trainer):
                after = trainer.train()
            before = trainer.progress.before
            console.summary(Evaluation.from_json(before) if before else None, after, folder.path)
    return after


def evaluate_model(target: str, recipe: Recipe) -> Evaluation:
    """Evaluate a model, or the newest checkpoint of a run folder, on a recipe's held-out problems.

    Raises:
        UserError: ``target`` is neither, or something in the recipe is to mend.
    """
    _check_devices(recipe)
    report = functools.partial(print, "checkpoint passed over:", file=sys.stderr)
    folder = Path(target) / "checkpoints"
    checkpoint = newest_complete(folder, report) if folder.is_dir() else None
    model = str(checkpoint) if checkpoint else target
    recipe = recipe.model_copy(update={"model": model})
    with contextlib.ExitStack() as stack:
        prompts = Prompts(model, recipe.template, max_prompt_length=recipe.rollout.max_prompt_length)
        scorer = _scorer(recipe, prompts)
        stack.callback(scorer.close)
        dataset = load_data(recipe.data, seed=recipe.seed, check_reference=scorer.check_reference)
        parts = _Parts(recipe=recipe, dataset=dataset, prompts=prompts, scorer=scorer)
        if recipe.rollout.engine == "vllm":  # which loads the weights for itself
            with _engine(recipe, prompts, resolve_model(model), None) as engine:
                return parts.evaluate(engine)
        with _model(recipe, prompts, None) as (_, engine):
            return parts.evaluate(engine)


def show_evaluation(evaluation: Evaluation, target: str) -> None:
    """Print the table of one evaluation."""
    Console(0).summary(None, evaluation, Path(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What does not depend on the weights."""

    recipe: Recipe
    dataset: Dataset
    prompts: Prompts
    scorer: Scorer

    def trainer(
        self, policy: Policy, engine: Engine, folder: RunFolder, checkpoints: CheckpointStore, console: Console
    ) -> Trainer:
        recipe = self.recipe
        learner = Learner(policy, recipe)
        sinks: list[Sink] = [JsonlSink(folder.metrics), console]
        if recipe.log.wandb != "off":
            sinks.append(
                WandbSink(folder.path, project=recipe.log.project, mode=recipe.log.wandb, config=recipe.model_dump())
            )
        return Trainer(
            recipe=recipe,
            rollout=Rollout(
                engine=engine,
                prompt_at=self.prompt_at,
                score_all=self.scorer.score_all,
                sampling=self.sampling(),
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
            publisher=Publisher(policy, engine, self.probes(), exact=_is_exact(recipe)),
            evaluate=lambda: self.evaluate(engine),
            source=self.dataset.held_out[0].source,
            take_side_metrics=lambda: self.take_side_metrics(engine),
            save_model=lambda path: self.save_model(policy, path),
            folder=folder,
            checkpoints=checkpoints,
            metrics=Metrics(sinks),
            console=console,
        )

    def save_model(self, policy: Policy, path: Path) -> None:
        """Weights and tokenizer, as transformers and ``vllm serve`` load them."""
        policy.save(path)
        self.prompts.save(path)

    def prompt_at(self, ordinal: int) -> Prompt:
        problem, attempt = self.dataset.train.problem(ordinal)
        return self.prompts.encode(problem, ordinal=ordinal, attempt=attempt)

    def held_out_prompts(self) -> list[Prompt]:
        return [
            self.prompts.encode(problem, ordinal=place, attempt=0)
            for place, problem in enumerate(self.dataset.held_out)
        ]

    def sampling(self) -> Sampling:
        rollout = self.recipe.rollout
        return Sampling(
            max_tokens=rollout.max_completion_length,
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            top_k=rollout.top_k,
            stop_token_ids=self.prompts.end_token_ids,
            stop=tuple(rollout.stop),
        )

    def evaluate(self, engine: Engine) -> Evaluation:
        settings = self.recipe.evaluation
        evaluation = evaluate(
            engine,
            self.held_out_prompts(),
            score_all=self.scorer.score_all,
            accuracy=self.scorer.accuracy,
            sampling=Sampling(
                max_tokens=self.recipe.rollout.max_completion_length,
                temperature=settings.temperature,
                top_p=settings.top_p,
                stop_token_ids=self.prompts.end_token_ids,
                stop=tuple(self.recipe.rollout.stop),
            ),
            num_samples=settings.num_samples,
            seed=self.recipe.seed,
        )
        self.take_side_metrics(engine)  # a step's figures are of its own verdicts and calls
        return evaluation

    def take_side_metrics(self, engine: Engine) -> dict[str, float]:
        """What verdicts and tools took since the last call."""
        metrics = self.scorer.take_stats().metrics()
        if isinstance(engine, ToolEngine):
            metrics |= engine.tool.take_metrics()
        return metrics

    def probes(self) -> list[list[int]]:
        """Texts that both sides score to prove a publish: the first held-out prompts, end to end."""
        token_ids = [token for prompt in self.held_out_prompts() for token in prompt.token_ids]
        length = min(PROBE_TOKENS, _window(self.recipe) - 1)
        starts = range(0, NUM_PROBES * length, length)
        return [token_ids[start : start + length] for start in starts if len(token_ids) > start + 1]


@contextlib.contextmanager
def _model(recipe: Recipe, prompts: Prompts, checkpoint: Path | None) -> Iterator[tuple[Policy, Engine]]:
    """The learner's policy and an engine over the same weights."""
    torch.manual_seed(recipe.seed)
    source = str(checkpoint) if checkpoint else resolve_model(recipe.model)
    policy = Policy.load(
        source,
        dtype=getattr(torch, recipe.learner.dtype),
        arithmetic=_arithmetic(recipe),
        device="cuda" if recipe.num_gpus else "cpu",
        gradient_checkpointing=recipe.learner.gradient_checkpointing,
    )
    with _engine(recipe, prompts, source, policy.model) as engine:
        yield policy, engine


@contextlib.contextmanager
def _engine(recipe: Recipe, prompts: Prompts, source: str, module: torch.nn.Module | None) -> Iterator[Engine]:
    engine = make_engine(
        model=source,
        module=module,
        rollout=recipe.rollout,
        dtype=_engine_dtype(recipe),
        max_model_len=_window(recipe),
        decode=prompts.decode,
        on_gpu=recipe.num_gpus > 0,
        seed=recipe.seed,
    )
    if recipe.rollout.tool is not None:
        engine = _with_tool(engine, recipe, prompts)
    try:
        yield engine
    finally:
        engine.close()


def _with_tool(engine: Engine, recipe: Recipe, prompts: Prompts) -> ToolEngine:
    num_workers = recipe.scoring.num_workers
    try:
        tool = PythonTool(num_workers=num_workers)
    except SandboxUnavailableError as error:
        engine.close()
        raise UserError(f"recipe key 'rollout.tool' = {recipe.rollout.tool!r}: {error}") from error
    return ToolEngine(
        engine,
        tool,
        encode=prompts.encode_text,
        decode=prompts.decode,
        max_calls=recipe.rollout.max_tool_calls,
        num_threads=num_workers,
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
    """The first Ctrl-C or SIGTERM finishes the step and saves; a second one ends the run where it stands."""

    def request_stop(*_: object) -> None:
        trainer.stop_requested = True
        for number, handler in previous.items():
            signal.signal(number, handler)
        trainer.console.say("interrupted: finishing this step, then saving (Ctrl-C again ends at once, unsaved)")

    previous = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_prompts(dataset: Dataset, prompts: Prompts) -> None:
    """Encode every problem of a finite dataset once, so that one that is too long is found now, not at its step.

    Raises:
        DataError: a prompt is longer than rollout.max_prompt_length.
    """
    for place, problem in enumerate(dataset.held_out):
        prompts.encode(problem, ordinal=place, attempt=0)
    for ordinal in range(dataset.train.size or 0):
        prompts.encode(dataset.train.problem(ordinal)[0], ordinal=ordinal, attempt=0)


def _check_devices(recipe: Recipe) -> None:
    available = torch.cuda.device_count()
    if recipe.num_gpus > available:
        raise UserError(
            f"recipe key 'num_gpus' = {recipe.num_gpus}, and this machine has {available} that torch can use. Set "
            f"num_gpus={available}, or run it where they are (`grpo check` says how much memory the recipe needs)"
        )
    if recipe.num_gpus > 1:
        raise UserError(
            f"recipe key 'num_gpus' = {recipe.num_gpus}: one process on at most one GPU is what this version runs. "
            "Set num_gpus=1"
        )


def _scorer(recipe: Recipe, prompts: Prompts) -> Scorer:
    def prompt_text(prompt: Prompt) -> str:
        return prompts.decode(prompt.token_ids)

    return Scorer(recipe.rewards, recipe.scoring, seed=recipe.seed, prompt_text=prompt_text)


def _window(recipe: Recipe) -> int:
    """Tokens of the longest prompt with the longest answer."""
    return recipe.rollout.max_prompt_length + recipe.rollout.max_completion_length


def _is_exact(recipe: Recipe) -> bool:
    """Whether both sides compute in fp32, so that the probe must agree to 1e-4 nats."""
    return _arithmetic(recipe) is torch.float32 and _engine_dtype(recipe) == "float32"


def _arithmetic(recipe: Recipe) -> torch.dtype:
    return arithmetic_dtype(getattr(torch, recipe.learner.dtype), on_gpu=recipe.num_gpus > 0)


def _engine_dtype(recipe: Recipe) -> str:
    """What the recipe says, and else as the learner computes."""
    return recipe.rollout.engine_dtype or str(_arithmetic(recipe)).removeprefix("torch.")


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


def _say_start(
    console: Console,
    recipe: Recipe,
    dataset: Dataset,
    checkpoints: CheckpointStore,
    checkpoint: Path | None,
    resume: bool,
) -> None:
    """What a person should know before the first step."""
    if str(_arithmetic(recipe)) != f"torch.{recipe.learner.dtype}":
        console.say("this CPU has no bf16 products: weights are kept in bfloat16 and computed with in float32")
    for damage in checkpoints.damaged:
        console.say(f"checkpoint passed over: {damage}")
    if resume:
        console.say(f"resuming from {checkpoint}" if checkpoint else "no checkpoint to resume from: starting anew")
    if dataset.num_excluded:
        console.say(f"{dataset.num_excluded} rows of the data left out: {'; '.join(dataset.excluded)}")
    if dataset.num_duplicates:
        console.say(f"{dataset.num_duplicates} training rows ask a held-out question and are left out")
