"""What does not depend on the weights: problems, prompts and verdicts, and what is asked of an engine with them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grpo.assembly import window_of
from grpo.data import Dataset, load_data
from grpo.datatypes import Prompt
from grpo.engine.fleet import EngineFleet
from grpo.engine.protocol import Engine, Sampling
from grpo.engine.server_engine import ServerEngine
from grpo.engine.tool_engine import ToolEngine
from grpo.evaluation import Evaluation, evaluate
from grpo.learner import Learner
from grpo.prompts import Prompts
from grpo.recipe import Recipe
from grpo.scoring import Scorer

NUM_PROBES, PROBE_TOKENS = 6, 64


@contextlib.contextmanager
def material_of(recipe: Recipe) -> Iterator["Material"]:
    """A recipe's material, its reward functions closed at the end.

    Raises:
        UserError: the model's tokenizer, the template, a reward or the data is to be mended.
    """
    prompts = Prompts.of(recipe)
    with contextlib.closing(scorer_of(recipe, prompts)) as scorer:
        dataset = load_data(recipe.data, seed=recipe.seed, check_reference=scorer.check_reference)
        yield Material(recipe=recipe, dataset=dataset, prompts=prompts, scorer=scorer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a run works with that does not depend on the weights: problems, prompts, reward functions."""

    recipe: Recipe
    dataset: Dataset
    prompts: Prompts
    scorer: Scorer

    def save_model(self, learner: Learner, path: Path) -> None:
        """Weights and tokenizer, as transformers and ``vllm serve`` load them."""
        learner.save(path)
        self.prompts.save(path)

    def prompt_at(self, ordinal: int) -> Prompt:
        problem, attempt = self.dataset.train.problem(ordinal)
        return self.prompts.encode(problem, ordinal=ordinal, attempt=attempt)

    def check_prompts(self) -> None:
        """Encode every problem that can be listed once, so that one that is too long is found now, not at its step.

        Raises:
            DataError: a prompt is longer than rollout.max_prompt_length.
        """
        self.held_out_prompts()
        for place, problem in enumerate(self.dataset.train.listed):
            self.prompts.encode(problem, ordinal=place, attempt=0)

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
            sampling=evaluation_sampling(self.recipe, self.prompts),
            num_samples=settings.num_samples,
            seed=self.recipe.seed,
        )
        self.take_side_metrics(engine)  # a step's figures are of its own verdicts and calls
        return evaluation

    def take_side_metrics(self, engine: Engine) -> dict[str, float]:
        """What verdicts and tools took since the last call."""
        metrics = self.scorer.take_stats().metrics()
        if isinstance(engine, ToolEngine | EngineFleet | ServerEngine):
            metrics |= engine.take_metrics()
        return metrics

    def probes(self) -> list[list[int]]:
        """Texts that both sides score to prove a publish: the first held-out prompts, end to end."""
        token_ids = [token for prompt in self.held_out_prompts() for token in prompt.token_ids]
        length = min(PROBE_TOKENS, window_of(self.recipe) - 1)
        starts = range(0, NUM_PROBES * length, length)
        return [token_ids[start : start + length] for start in starts if len(token_ids) > start + 1]


def evaluation_sampling(recipe: Recipe, prompts: Prompts) -> Sampling:
    """How held-out problems are answered."""
    return Sampling(
        max_tokens=recipe.rollout.max_completion_length,
        temperature=recipe.evaluation.temperature,
        top_p=recipe.evaluation.top_p,
        stop_token_ids=prompts.end_token_ids,
        stop=tuple(recipe.rollout.stop),
    )


def scorer_of(recipe: Recipe, prompts: Prompts) -> Scorer:
    """The recipe's reward functions; the caller closes it."""

    def prompt_text(prompt: Prompt) -> str:
        return prompts.decode(prompt.token_ids)

    return Scorer(recipe.rewards, recipe.scoring, seed=recipe.seed, prompt_text=prompt_text)
