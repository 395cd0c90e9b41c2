"""Evaluation on held-out problems: pass@k, majority votes, and what the answers look like."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from grpo.datatypes import Completion, Prompt, ScoredCompletion
from grpo.engine.protocol import Engine, Request, Sampling
from grpo.errors import EngineError, VerifierError
from grpo.estimators import bootstrap_intervals, majority_at_k, pass_at_k, ratios
from grpo.seeds import named_seed
from rewards.verdict import Status

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a set of problems with N answers each came to.

    ``values`` has, by name, ``pass@k`` and ``maj@k``, ``mean_length`` (tokens), ``reasons`` (the share of answers with
    text between <think> and </think>), ``accuracy_given_reasoning`` (NaN where no answer reasons), ``clipped`` (the
    share cut off at the longest length) and ``unscored`` (the share of answers whose verifier failed: they leave
    every other statistic); with a tool also ``uses_tool``, the share of answers that called it and got its output.
    ``intervals`` has the 95% bootstrap interval over problems of each. ``parts`` has the evaluation of each source's
    problems, by the source's name, where they come from several.
    """

    num_problems: int
    num_samples: int
    num_unscored: int
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    parts: Mapping[str, "Evaluation"] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A form that strict JSON keeps as it is, null for what is not a number; ``from_json`` takes it back."""
        return {
            "num_problems": self.num_problems,
            "num_samples": self.num_samples,
            "num_unscored": self.num_unscored,
            "values": {name: _or_null(value) for name, value in self.values.items()},
            "intervals": {name: [_or_null(low), _or_null(high)] for name, (low, high) in self.intervals.items()},
        } | ({"parts": {name: part.to_json() for name, part in self.parts.items()}} if self.parts else {})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Evaluation":
        """What ``to_json`` gave."""
        values = {name: _or_nan(value) for name, value in record["values"].items()}
        intervals = {name: (_or_nan(low), _or_nan(high)) for name, (low, high) in record["intervals"].items()}
        parts = {name: cls.from_json(part) for name, part in record.get("parts", {}).items()}
        return cls(**{**record, "values": values, "intervals": intervals, "parts": parts})

    def metrics(self, source: str) -> dict[str, float]:
        """The values under verl's names, those that are not a number left out.

        ``val-core/{source}/acc/`` mean@N, best@k and maj@k; ``val-aux/{source}/`` the rest. Where the problems come
        from several sources, each has its own under its own name, and there are none of all together.
        """
        metrics: dict[str, float] = {}
        for name, part in self.parts.items():
            metrics |= part.metrics(name)
        if self.parts:
            return metrics
        for name, value in self.values.items():
            if not math.isnan(value):
                metrics[_metric_name(name, source, self.num_samples)] = value
        return metrics


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _metric_name(name: str, source: str, num_samples: int) -> str:
    kind, at, k = name.partition("@")
    if not at:
        return f"val-aux/{source}/{name}"
    if name == "pass@1":
        return f"val-core/{source}/acc/mean@{num_samples}"
    return f"val-core/{source}/acc/{'best' if kind == 'pass' else kind}@{k}"


def evaluate(
    engine: Engine,
    prompts: Sequence[Prompt],
    *,
    score_all: Callable[[Iterable[Completion], int], list[ScoredCompletion]],
    accuracy: str,
    sampling: Sampling,
    num_samples: int,
    seed: int,
) -> Evaluation:
    """Sample ``num_samples`` answers to each prompt, score them, and sum up.

    ``accuracy`` names the reward whose verdict says what is correct. An answer's seed depends on ``seed``, the
    problem and the sample's index alone, so two evaluations of one run draw with the same randomness.

    Raises:
        EngineError: the engine lost an answer.
        VerifierError: no answer at all could be scored.
    """
    answers = _sample(engine, prompts, score_all, sampling, num_samples, seed)
    drawn = named_seed("bootstrap", seed)
    by_source: dict[str, list[list[ScoredCompletion]]] = {}
    for prompt, members in zip(prompts, answers, strict=True):
        by_source.setdefault(prompt.problem.source, []).append(members)
    whole = summarize(answers, accuracy=accuracy, seed=drawn)
    if len(by_source) == 1:
        return whole
    parts = {source: summarize(members, accuracy=accuracy, seed=drawn) for source, members in by_source.items()}
    return replace(whole, parts=parts)


def _sample(
    engine: Engine,
    prompts: Sequence[Prompt],
    score_all: Callable[[Iterable[Completion], int], list[ScoredCompletion]],
    sampling: Sampling,
    num_samples: int,
    seed: int,
) -> list[list[ScoredCompletion]]:
    """The scored answers, P lists of N in order of sample index."""
    requests = [
        Request(
            prompt=prompt,
            sample_index=index,
            seed=named_seed("eval", seed, prompt.problem.problem_id, index),
            sampling=sampling,
        )
        for prompt in prompts
        for index in range(num_samples)
    ]
    scored = {
        (answer.completion.prompt.group_id, answer.completion.sample_index): answer
        for answer in score_all(engine.sample(requests), num_samples)
    }
    lost = [(r.prompt.group_id, r.sample_index) for r in requests if (r.prompt.group_id, r.sample_index) not in scored]
    if lost:
        raise EngineError(
            f"the engine lost {len(lost)} of {len(requests)} answers; first: answer {lost[0][1]} to {lost[0][0]}"
        )
    return [[scored[prompt.group_id, index] for index in range(num_samples)] for prompt in prompts]


def summarize(answers: Sequence[Sequence[ScoredCompletion]], *, accuracy: str, seed: int) -> Evaluation:
    """Statistics of P problems with N scored answers each; ``seed`` draws the bootstrap's resamples.

    Every statistic is a ratio of sums over problems, and so is the same number in the bootstrap.
    """
    num_samples = len(answers[0])
    tallies = [_tally(members, accuracy, num_samples) for members in answers]
    if not _has_votes(answers, accuracy):
        tallies = [_without("maj@", tally) for tally in tallies]
    if not any(member.completion.uses_tool for members in answers for member in members):
        tallies = [_without("uses_tool", tally) for tally in tallies]
    num_unscored = sum(int(tally["unscored"][0]) for tally in tallies)
    if num_unscored == len(answers) * num_samples:
        reason = answers[0][0].verdicts[accuracy].reason
        raise VerifierError(f"none of {num_unscored} answers could be scored by '{accuracy}'; first reason: {reason}")
    names = tuple(tallies[0])
    pairs = np.array([[tally[name] for name in names] for tally in tallies], dtype=np.float64)
    numerators, denominators = pairs[..., 0], pairs[..., 1]
    values = ratios(numerators, denominators)
    intervals = bootstrap_intervals(numerators, denominators, seed=seed)
    return Evaluation(
        num_problems=len(answers),
        num_samples=num_samples,
        num_unscored=num_unscored,
        values={name: float(value) for name, value in zip(names, values, strict=True)},
        intervals={name: (float(low), float(high)) for name, (low, high) in zip(names, intervals, strict=True)},
    )


def _has_votes(answers: Sequence[Sequence[ScoredCompletion]], accuracy: str) -> bool:
    """Whether a majority can be told: a reward function that never says what it read has right answers and no votes."""
    verdicts = [member.verdicts[accuracy] for members in answers for member in members]
    is_silent = all(verdict.extracted is None for verdict in verdicts)
    return not is_silent or not any(verdict.status is Status.CORRECT for verdict in verdicts)


def sample_sizes(num_samples: int) -> tuple[int, ...]:
    """The k of pass@k and maj@k: powers of two below n, and n.

    >>> sample_sizes(12)
    (1, 2, 4, 8, 12)
    """
    return (*(1 << i for i in range(num_samples.bit_length()) if 1 << i < num_samples), num_samples)


def _tally(members: Sequence[ScoredCompletion], accuracy: str, num_samples: int) -> dict[str, tuple[float, float]]:
    """One problem's share, numerator and denominator, in each statistic.

    Where answers are unscored, k is at most the number of those that are left.
    """
    scored = [member for member in members if member.verdicts[accuracy].status.has_score]
    verdicts = [member.verdicts[accuracy] for member in scored]
    correct = [verdict.status is Status.CORRECT for verdict in verdicts]
    votes = [None if verdict.status is Status.UNPARSED else verdict.extracted for verdict in verdicts]
    reasons = [has_reasoning(member.completion.policy_text) for member in scored]
    clipped = [member.completion.finish_reason == "length" for member in scored]
    left = len(scored)
    present = float(left > 0)
    tally: dict[str, tuple[float, float]] = {}
    for k in sample_sizes(num_samples):
        tally[f"pass@{k}"] = (pass_at_k(left, sum(correct), min(k, left)) if left else 0.0, present)
    for k in sample_sizes(num_samples):
        if k > 1 or k == num_samples:
            tally[f"maj@{k}"] = (majority_at_k(votes, correct, min(k, left)) if left else 0.0, present)
    tally["mean_length"] = (sum(member.completion.num_tokens for member in scored), left)
    tally["reasons"] = (sum(reasons), left)
    tally["accuracy_given_reasoning"] = (sum(map(min, correct, reasons)), sum(reasons))
    tally["clipped"] = (sum(clipped), left)
    tally["uses_tool"] = (sum(member.completion.uses_tool for member in scored), left)
    tally["unscored"] = (len(members) - left, len(members))
    return tally


def _without(prefix: str, tally: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    return {name: pair for name, pair in tally.items() if not name.startswith(prefix)}


def has_reasoning(text: str) -> bool:
    """Whether the first <think> is closed and something but space stands between.

    >>> has_reasoning("<think>2+2=4</think>4"), has_reasoning("<think> </think>4")
    (True, False)
    """
    _, opened, rest = text.partition(OPEN_TAG)
    inside, closed, _ = rest.partition(CLOSE_TAG)
    return bool(opened and closed and inside.strip())
