"""Whole runs in a second: the real trainer, learner, engine and files, over a model of a few thousand parameters."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from grpo.buffer import Buffer
from grpo.checkpoint_store import CheckpointStore, Retention
from grpo.console import Console
from grpo.data import Shuffled
from grpo.datatypes import Completion, Problem, Prompt, ScoredCompletion
from grpo.engine.protocol import Sampling
from grpo.engine.transformers_engine import TransformersEngine
from grpo.evaluation import Evaluation
from grpo.learner import Learner, Policy
from grpo.metrics import Metrics, is_timing
from grpo.recipe import Checkpoint, Recipe, to_yaml
from grpo.rollout import Rollout
from grpo.run_folder import RunFolder
from grpo.sinks import JsonlSink
from grpo.trainer import Trainer
from grpo.weights import Publisher
from tests.factories import make_recipe, make_scored

PROBES = [[3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13]]
STREAM = Shuffled(problems=tuple(Problem(problem_id=f"p/{i}", question="", reference="") for i in range(40)), seed=0)
EVALUATED = Evaluation(num_problems=1, num_samples=1, num_unscored=0, values={"pass@1": 0.0}, intervals={})

ScoreAll = Callable[[Iterable[Completion], int], list[ScoredCompletion]]


def run_recipe(*, max_steps: int = 4, **rollout: Any) -> Recipe:
    """Two problems a step, groups of the next step sampled before this one learns, a checkpoint every second step."""
    recipe = make_recipe(rollout={"engine": "transformers", "max_staleness": 1, "max_completion_length": 6, **rollout})
    return recipe.model_copy(update={"max_steps": max_steps, "checkpoint": Checkpoint(every=2, keep=9)})


def learner_of(source: Path, recipe: Recipe) -> Learner:
    return Learner(Policy.load(str(source), dtype=torch.float32, device="cpu"), recipe)


def prompt_at(ordinal: int) -> Prompt:
    problem, attempt = STREAM.problem(ordinal)
    number = int(problem.problem_id.removeprefix("p/"))
    return Prompt(problem=problem, token_ids=(3, 4 + number % 20, 5), ordinal=ordinal, attempt=attempt)


def score_by_tokens(completions: Iterable[Completion], _group_size: int) -> list[ScoredCompletion]:
    """A reward that differs between answers, and is the answer's own."""
    return [make_scored(answer, float(answer.token_ids.sum() % 7)) for answer in completions]


def make_trainer(
    path: Path, source: Path, recipe: Recipe, *, resume: bool = False, score_all: ScoreAll = score_by_tokens
) -> Trainer:
    """A run in ``path`` over the model at ``source``; resumed, it goes on from its newest checkpoint."""
    folder = RunFolder(path, resume=resume)
    folder.write_recipe(to_yaml(recipe))
    checkpoints = CheckpointStore(folder.checkpoints, retention=Retention(keep=recipe.checkpoint.keep))
    checkpoint = checkpoints.latest() if resume else None
    learner = learner_of(checkpoint or source, recipe)
    engine = TransformersEngine(learner.policy.model, rollout=recipe.rollout, decode=str)
    rollout = recipe.rollout
    trainer = Trainer(
        recipe=recipe,
        rollout=Rollout(
            engine=engine,
            prompt_at=prompt_at,
            score_all=score_all,
            sampling=Sampling(max_tokens=rollout.max_completion_length, stop_token_ids=(1,)),
            num_generations=rollout.num_generations,
            seed=recipe.seed,
        ),
        buffer=Buffer(
            groups_per_step=rollout.problems_per_step,
            max_staleness=rollout.max_staleness,
            max_refill_groups=rollout.max_refill_groups,
            max_steps=recipe.max_steps,
        ),
        learner=learner,
        publisher=Publisher(learner, engine, PROBES, exact=True),
        evaluate=lambda: EVALUATED,
        source="test",
        take_side_metrics=lambda: {"time/score_s": 0.0},
        save_model=learner.save,
        folder=folder,
        checkpoints=checkpoints,
        metrics=Metrics([JsonlSink(folder.metrics)]),
        console=Console(recipe.max_steps),
    )
    if checkpoint is not None:
        trainer.restore(checkpoint)
    return trainer


def train(trainer: Trainer) -> None:
    try:
        trainer.train()
    finally:
        trainer.metrics.close()
        trainer.console.close()
        trainer.folder.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ended(path: Path) -> list[int]:
    """The ordinals that the ledger says an end of, in order."""
    return sorted(entry["ordinal"] for entry in lines(path / "ledger.jsonl"))


def assert_every_problem_ended_once(path: Path) -> None:
    """No problem of the stream was skipped, and none came twice."""
    assert ended(path) == list(range(len(ended(path))))


def assert_same_run(one: Path, other: Path) -> None:
    """Ledger, metrics (timings apart) and final weights, to the bit."""
    assert (one / "ledger.jsonl").read_bytes() == (other / "ledger.jsonl").read_bytes()
    ours, theirs = (
        [{name: value for name, value in line.items() if not is_timing(name)} for line in lines(run / "metrics.jsonl")]
        for run in (one, other)
    )
    assert ours == theirs
    weights, again = (load_file(newest(run) / "model.safetensors") for run in (one, other))
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def newest(path: Path) -> Path:
    return max((path / "checkpoints").glob("step-*"))
