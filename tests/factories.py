"""Small values of the core types for tests. Nothing here computes what the tests check."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grpo.advantages import ready_group, to_samples, with_advantages
from grpo.datatypes import (
    Completion,
    FinishReason,
    Group,
    Problem,
    Prompt,
    ReadyGroup,
    Sample,
    ScoredCompletion,
    Segment,
    Source,
)
from grpo.objective import Answers, Tokens
from grpo.recipe import Algorithm, Recipe
from rewards.verdict import Status, Verdict
from tests.models import VOCABULARY

TWO_STEPS = {  # over a recipe: as small a run as has a step, a checkpoint and an evaluation of each kind
    "max_steps": 2,
    "rollout.problems_per_step": 2,
    "rollout.num_generations": 4,
    "rollout.max_refill_groups": 0,
    "evaluation.num_samples": 2,
    "evaluation.every": 1,
    "checkpoint.every": 1,
}


def make_prompt(ordinal: int = 0, *, attempt: int = 0, token_ids: Iterable[int] = (3, 4, 5)) -> Prompt:
    problem = Problem(problem_id=f"p/{ordinal}", question=f"{ordinal}?", reference=str(ordinal))
    return Prompt(problem=problem, token_ids=tuple(token_ids), ordinal=ordinal, attempt=attempt)


def make_segment(rng: np.random.Generator, num_tokens: int, *, version: int = 0, source: Source = "policy") -> Segment:
    behavior = -rng.exponential(1.0, num_tokens) if source == "policy" else np.zeros(num_tokens)
    return Segment(
        token_ids=rng.integers(2, VOCABULARY, num_tokens),
        behavior_logprobs=behavior.astype(np.float32),
        version=version,
        source=source,
    )


def make_completion(
    prompt: Prompt,
    sample_index: int,
    segments: Sequence[Segment],
    finish_reason: FinishReason = "stop",
    text: str = "",
) -> Completion:
    return Completion(
        prompt=prompt, sample_index=sample_index, segments=tuple(segments), finish_reason=finish_reason, text=text
    )


def make_scored(completion: Completion, reward: float | None) -> ScoredCompletion:
    status = Status.HARNESS_ERROR if reward is None else Status.CORRECT
    return ScoredCompletion(
        completion=completion, verdicts={"number": Verdict(score=reward, status=status)}, reward=reward
    )


def make_group(rewards: Sequence[float | None], ordinal: int = 0, *, num_tokens: int = 4) -> Group:
    rng = np.random.default_rng(ordinal)
    prompt = make_prompt(ordinal)
    return Group(
        prompt=prompt,
        members=tuple(
            make_scored(make_completion(prompt, index, [make_segment(rng, num_tokens)]), reward)
            for index, reward in enumerate(rewards)
        ),
    )


def make_ragged_group(rng: np.random.Generator, ordinal: int, size: int) -> Group:
    """Answers of 1 to 9 tokens, some truncated, some with a tool's tokens in the middle, one unscored."""
    prompt = make_prompt(ordinal, token_ids=rng.integers(2, VOCABULARY, rng.integers(1, 6)).tolist())
    members = []
    for index in range(size):
        segments = [make_segment(rng, int(rng.integers(1, 5)))]
        if rng.random() < 0.4:
            segments += [make_segment(rng, 2, source="environment"), make_segment(rng, int(rng.integers(1, 4)))]
        reason: FinishReason = "length" if rng.random() < 0.3 else "stop"
        reward = None if index == size - 1 and ordinal == 0 else float(rng.normal())
        members.append(make_scored(make_completion(prompt, index, segments, reason), reward))
    return Group(prompt=prompt, members=tuple(members))


def make_sample(
    rng: np.random.Generator,
    *,
    prompt_length: int = 3,
    num_tokens: int = 5,
    advantage: float = 1.0,
    masked: bool = False,
    old: bool = True,
    index: int = 0,
) -> Sample:
    """One sample of random tokens; ``masked`` leaves it without a loss token."""
    length = prompt_length + num_tokens
    loss_mask = np.arange(length) >= prompt_length
    logprobs = np.where(loss_mask, -rng.exponential(2.0, length), 0.0)
    return Sample(
        group_id=f"p/{index}#0",
        sample_index=index,
        prompt_length=prompt_length,
        token_ids_L=rng.integers(2, VOCABULARY, length),
        loss_mask_L=loss_mask & (not masked),
        behavior_logprobs_L=logprobs.astype(np.float32),
        old_logprobs_L=(logprobs + rng.normal(0, 0.2, length)).astype(np.float32) if old else None,
        advantage=advantage,
        version=0,
        truncated=masked,
    )


def make_ready(ordinal: int) -> ReadyGroup:
    """A group without samples, for what counts groups."""
    return ReadyGroup(group_id=f"p/{ordinal}#0", ordinal=ordinal, samples=(), rewards_G=np.zeros(0))


def samples_of(groups: Sequence[Group], algorithm: Algorithm, *, mask_truncated: bool = False) -> list[Sample]:
    """What the learner gets of one step's groups."""
    ready = [
        ready_group(group, to_samples(group, mask_truncated=mask_truncated), np.zeros(len(group.scored)))
        for group in groups
    ]
    return with_advantages(ready, algorithm, {"number": 1.0})


def make_tokens(
    policy: Tensor,
    old: Tensor,
    behavior: Tensor,
    ref: Tensor | None,
    advantages: Tensor,
    lengths: Sequence[int] | None = None,
) -> Tokens:
    """Loss tokens of answers of these lengths; absent: of one answer."""
    own = torch.tensor([len(policy)] if lengths is None else list(lengths))
    return Tokens(
        policy_logprobs_N=policy,
        old_logprobs_N=old,
        behavior_logprobs_N=behavior,
        ref_logprobs_N=ref,
        advantages_N=advantages,
        entropies_N=torch.zeros_like(policy),
        answers=Answers(index_N=torch.arange(len(own)).repeat_interleave(own), lengths_A=own.to(policy.dtype)),
    )


def make_ragged_samples(seed: int, count: int, *, old: bool = True) -> list[Sample]:
    """Samples of 2 to 20 tokens; about one in five has no loss token."""
    rng = np.random.default_rng(seed)
    return [
        make_sample(
            rng,
            prompt_length=int(rng.integers(1, 8)),
            num_tokens=int(rng.integers(1, 13)),
            advantage=float(rng.normal()),
            masked=bool(rng.random() < 0.2),
            old=old,
            index=index,
        )
        for index in range(count)
    ]


def make_recipe(
    *,
    algorithm: dict[str, Any] | None = None,
    learner: dict[str, Any] | None = None,
    rollout: dict[str, Any] | None = None,
    log: dict[str, Any] | None = None,
) -> Recipe:
    """A recipe whose sections take the given keys."""
    return Recipe.model_validate(
        {
            "model": "tiny",
            "max_steps": 1,
            "output_dir": "runs/test",
            "template": "qa",
            "data": {"train": {"path": "train.jsonl"}},
            "rewards": [{"name": "number"}],
            "rollout": {"problems_per_step": 2, "num_generations": 4, "max_completion_length": 12} | (rollout or {}),
            "algorithm": algorithm or {},
            "learner": {"learning_rate": 1e-3} | (learner or {}),
            "log": log or {},
        }
    )
