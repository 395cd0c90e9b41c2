"""grpo's loss and gradient norm on the batches that TRL has seen: groups in, one step of the learner, figures out."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.trl_batches import (
    GROUP_SIZE,
    MAX_COMPLETION_LENGTH,
    NUM_GROUPS,
    REWARD_WEIGHTS,
    Answer,
    Array,
    Outcome,
    Recording,
    set_to_old,
    set_to_policy,
    set_to_reference,
    write_checkpoint,
)
from benchmarks.trl_settings import Convention, Setting
from grpo.advantages import ready_group, to_samples, with_advantages
from grpo.datatypes import Batch, Completion, Group, Problem, Prompt, Row, Sample, ScoredCompletion, Segment
from grpo.learner import Learner, Policy
from grpo.recipe import Recipe, parse_recipe
from rewards.verdict import Status, Verdict, failed

RECIPE = f"""
model: unused
max_steps: 100
output_dir: unused
template: qa
data: {{train: {{path: arithmetic}}}}
rewards: {json.dumps([{"name": name, "weight": weight} for name, weight in REWARD_WEIGHTS.items()])}
rollout:
  problems_per_step: {NUM_GROUPS}
  num_generations: {GROUP_SIZE}
  max_completion_length: {MAX_COMPLETION_LENGTH}
  max_prompt_length: 12
learner: {{learning_rate: 1e-3, row_tokens: 160}}
"""
ALLOWED = 1e-5  # relative difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Between grpo and TRL under one setting, each the worst of the batches.

    ``loss`` and ``grad_norm`` are relative (see ``relative``), ``loss`` None where the two have unlike values for one
    gradient; ``advantages`` is relative to the batch's largest.
    """

    setting: Setting
    loss: float | None
    grad_norm: float
    advantages: float

    @property
    def worst(self) -> float:
        return max(self.loss or 0.0, self.grad_norm, self.advantages)


@contextmanager
def checkpoint() -> Iterator[Path]:
    """The tiny model's folder."""
    with tempfile.TemporaryDirectory() as scratch:
        yield write_checkpoint(Path(scratch))


def compare(setting: Setting, recording: Recording, folder: Path) -> Differences:
    """grpo's figures on every batch against those that TRL had under the same setting."""
    trl, ours = recording.outcomes[setting.name], outcome_of(setting, recording, folder)
    scale = np.array([_scale(setting, batch) for batch in recording.batches])
    return Differences(
        setting=setting,
        loss=None if setting.convention is Convention.VALUE else relative(ours.loss, trl.loss * scale),
        grad_norm=relative(ours.grad_norm * setting.gradient_scale, trl.grad_norm * scale),
        advantages=float(
            np.max(np.abs(ours.advantages - trl.advantages) / np.abs(trl.advantages).max(axis=1)[:, None])
        ),
    )


def relative(ours: Array, theirs: Array) -> float:
    """The largest difference of a batch, relative to the value; where that is below the batches' root mean square,
    relative to the latter. A loss near zero is what terms of both signs leave over: its rounding is theirs."""
    scale = np.maximum(np.abs(theirs), np.sqrt(np.mean(theirs**2)))
    return float(np.max(np.abs(ours - theirs) / scale))


def outcome_of(setting: Setting, recording: Recording, folder: Path) -> Outcome:
    """What grpo's learner makes of every batch."""
    recipe = _recipe(setting)
    policy = Policy.load(str(folder), dtype=torch.float32, device="cpu")
    learner = LEARNERS.get(setting.convention, Learner)(policy, recipe)
    losses, norms, advantages = [], [], []
    for index, batch in enumerate(recording.batches):
        set_to_old(policy.model)
        samples = _samples(setting, recipe, learner, batch)
        if not setting.on_policy:
            set_to_policy(policy.model, index)
        stats = learner.step(samples)
        losses.append(stats.loss)
        norms.append(stats.grad_norm)
        advantages.append(_padded(setting, batch, samples))
    return Outcome(loss=np.array(losses), grad_norm=np.array(norms), advantages=np.array(advantages))


def logprob_differences(recording: Recording, folder: Path) -> float:
    """The largest, in nats, between the learner's log-probabilities and TRL's: of the old policy and the reference."""
    setting = Setting(name="", grpo={"beta": 1.0})
    recipe = _recipe(setting)
    policy = Policy.load(str(folder), dtype=torch.float32, device="cpu")
    learner = Learner(policy, recipe)
    worst = 0.0
    for batch in recording.batches:
        for set_weights_of, name in ((set_to_reference, "ref_logprobs"), (set_to_old, "old_logprobs")):
            set_weights_of(policy.model)
            for sample, answer in zip(_samples(setting, recipe, learner, batch), batch, strict=True):
                assert sample.old_logprobs_L is not None
                theirs = getattr(answer, name)[~answer.environment]
                worst = max(worst, float(np.abs(sample.old_logprobs_L[sample.loss_mask_L] - theirs).max()))
    return worst


class _LocalCounts(Learner):
    """The learner as TRL has it under ``bnpo``: each group is a micro-batch with a denominator of its own."""

    def _pack(self, samples: Sequence[Sample]) -> Batch:
        rows: list[Row] = []
        for start in range(0, len(samples), GROUP_SIZE):
            for row in super()._pack(samples[start : start + GROUP_SIZE]).rows:
                members = tuple(start + member for member in row.members)
                rows.append(replace(row, members=members, weights_T=row.weights_T / NUM_GROUPS))
        return Batch(rows=tuple(rows))


class _LocalQuantiles(Learner):
    """The learner as TRL has it under ``top_entropy_quantile``: each answer is a micro-batch, ranked by itself."""

    def _learned_tokens(self, rows: Sequence[Row]) -> dict[int, torch.Tensor]:
        share = self._algorithm.top_entropy_quantile
        learned = {}
        for row, entropies in zip(rows, self.policy.entropies(rows, temperature=self._temperature), strict=True):
            lengths = np.add.reduceat(row.loss_mask_T, row.boundaries[:-1], dtype=int)
            answers = np.split(entropies, np.cumsum(lengths)[:-1])
            learned[id(row)] = torch.from_numpy(
                np.concatenate([values >= np.quantile(values, 1 - share) for values in answers])
            )
        return learned


LEARNERS: Mapping[Convention, type[Learner]] = {
    Convention.LOCAL_COUNT: _LocalCounts,
    Convention.LOCAL_QUANTILE: _LocalQuantiles,
}


def _recipe(setting: Setting) -> Recipe:
    text = f"{RECIPE}algorithm: {json.dumps(setting.grpo_keys)}\n"
    return parse_recipe(text, [f"rollout.temperature={setting.temperature}"])


def _samples(setting: Setting, recipe: Recipe, learner: Learner, batch: Sequence[Answer]) -> list[Sample]:
    """The way of a step's groups in the trainer, from verdicts to samples with advantages."""
    algorithm = recipe.algorithm
    groups = [
        _group(setting, ordinal, batch[ordinal * GROUP_SIZE : (ordinal + 1) * GROUP_SIZE])
        for ordinal in range(NUM_GROUPS)
    ]
    samples = learner.with_old_logprobs(
        [s for group in groups for s in to_samples(group, mask_truncated=algorithm.mask_truncated_completions)]
    )
    penalties = np.zeros(len(samples))
    if algorithm.beta and algorithm.kl_in == "reward":
        penalties = algorithm.beta * np.array(learner.kl(samples))
    ends = np.cumsum([len(group.scored) for group in groups])
    ready = [
        ready_group(group, samples[end - len(group.scored) : end], penalties[end - len(group.scored) : end])
        for group, end in zip(groups, ends, strict=True)
    ]
    return with_advantages(ready, algorithm, REWARD_WEIGHTS)


def _group(setting: Setting, ordinal: int, answers: Sequence[Answer]) -> Group:
    problem = Problem(problem_id=str(ordinal), question="", reference="")
    prompt = Prompt(problem=problem, token_ids=tuple(answers[0].prompt_ids.tolist()), ordinal=ordinal)
    return Group(prompt=prompt, members=tuple(_scored(setting, prompt, at, own) for at, own in enumerate(answers)))


def _scored(setting: Setting, prompt: Prompt, index: int, answer: Answer) -> ScoredCompletion:
    completion = Completion(
        prompt=prompt,
        sample_index=index,
        segments=_segments(setting, answer),
        finish_reason="length" if answer.truncated else "stop",
        text="",
    )
    if not _counts(setting, answer):
        verdicts = {name: failed("the verifier is down") for name in REWARD_WEIGHTS}
        return ScoredCompletion(completion=completion, verdicts=verdicts, reward=None)
    verdicts = {
        name: Verdict(score=score, status=Status.CORRECT if score else Status.WRONG)
        for name, score in answer.scores.items()
    }
    reward = sum(weight * answer.scores[name] for name, weight in REWARD_WEIGHTS.items())
    return ScoredCompletion(completion=completion, verdicts=verdicts, reward=reward)


def _segments(setting: Setting, answer: Answer) -> tuple[Segment, ...]:
    """One for each run of tokens by one writer."""
    by_environment = answer.environment & (setting.trainer != "RLOO")  # TRL's RLOO has no mask for it
    cuts = np.flatnonzero(np.diff(by_environment)) + 1
    runs = [np.split(values, cuts) for values in (answer.completion_ids, answer.behavior_logprobs, by_environment)]
    return tuple(
        Segment(
            token_ids=token_ids,
            behavior_logprobs=logprobs,
            version=0,
            source="environment" if written[0] else "policy",
        )
        for token_ids, logprobs, written in zip(*runs, strict=True)
    )


def _counts(setting: Setting, answer: Answer) -> bool:
    return not (setting.verifiers_fail and answer.unscorable)


def _padded(setting: Setting, batch: Sequence[Answer], samples: Sequence[Sample]) -> Array:
    """The advantages of all answers, zeros for those that have none."""
    counted = np.array([_counts(setting, answer) for answer in batch])
    advantages = np.zeros(len(batch))
    advantages[counted] = [sample.advantage for sample in samples]
    return advantages


def _scale(setting: Setting, batch: Sequence[Answer]) -> float:
    """From TRL's denominator to grpo's, where TRL's has answers in it that could not be scored."""
    if setting.convention is not Convention.UNSCORED:
        return 1.0
    by_answer = setting.grpo_keys.get("loss_type") == "grpo"
    sizes = np.array([1 if by_answer else int((~answer.environment).sum()) for answer in batch])
    counted = np.array([_counts(setting, answer) for answer in batch])
    return float(sizes.sum() / sizes[counted].sum())
