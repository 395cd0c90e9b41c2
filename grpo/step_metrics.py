"""What is logged of a step: groups sampled, samples learned from, the update. Pure; names are those of metrics.py."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from grpo.advantages import has_variance
from grpo.datatypes import Group, Sample, ScoredCompletion
from grpo.learner import StepStats
from grpo.weights import Publication
from rewards.verdict import Status


def sampling_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Of every group sampled for the step, those rejected included."""
    if not groups:
        return {}
    members = [member for group in groups for member in group.members]
    lengths = np.array([member.completion.num_tokens for member in members])
    metrics = {
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
        "completions/clipped_ratio": float(np.mean([m.completion.finish_reason == "length" for m in members])),
        "frac_reward_zero_std": float(np.mean([not has_variance(group.rewards_G) for group in groups])),
    }
    if any(m.completion.uses_tool for m in members):
        metrics["tool/use_rate"] = float(np.mean([m.completion.uses_tool for m in members]))
    rewards = np.array([member.reward for member in members if member.reward is not None])
    if len(rewards):
        metrics["reward"] = float(rewards.mean())
        metrics["reward_std"] = float(np.mean([g.rewards_G.std(ddof=1) for g in groups if len(g.scored) > 1]))
    return metrics | dict(_verdict_metrics(members))


def _verdict_metrics(members: Sequence[ScoredCompletion]) -> Iterator[tuple[str, float]]:
    for name in members[0].verdicts:
        scores = [m.verdicts[name].score for m in members]
        known = [score for score in scores if score is not None]
        if known:
            yield f"rewards/{name}/mean", float(np.mean(known))
            yield f"rewards/{name}/std", float(np.std(known))
    statuses = Counter(verdict.status for member in members for verdict in member.verdicts.values())
    for status, count in sorted(statuses.items()):
        yield f"verdicts/{status}", float(count)
    audits = [member.audit for member in members if member.audit is not None]
    judged = [audit.status is Status.CORRECT for audit in audits if audit.status.has_score]
    if audits:
        yield "audit/num_checked", float(len(audits))
        yield "audit/failed", 1 - len(judged) / len(audits)
    if judged:
        yield "audit/gap", 1 - float(np.mean(judged))


def learning_metrics(samples: Sequence[Sample], stats: StepStats, version: int) -> dict[str, float]:
    """Of the samples learned from at ``version``, and of the update."""
    staleness = [version - sample.version for sample in samples]
    metrics = {
        "loss": stats.loss,
        "grad_norm": stats.grad_norm,
        "learning_rate": stats.learning_rate,
        "entropy": stats.entropy,
        "clip_ratio/low_mean": stats.clipped_low,
        "clip_ratio/high_mean": stats.clipped_high,
        "advantages/abs_mean": float(np.mean([abs(sample.advantage) for sample in samples])),
        "off_policy/mean": float(np.mean(staleness)),
        "off_policy/max": float(max(staleness)),
    }
    if stats.kl is not None:
        metrics["kl"] = stats.kl
    return metrics | _mismatch_metrics(stats)


MAX_DIFFERENCE = 300.0  # nats: beyond it squares of weights overflow


def _mismatch_metrics(stats: StepStats) -> dict[str, float]:
    """How far the engine's log-probabilities are from the learner's; the third layer of the publish proof."""
    if not len(stats.difference_N):
        return {}
    size_N, log_ratio_N = np.abs(stats.difference_N), stats.log_ratio_N
    difference_N = stats.difference_N.astype(np.float64)
    weights_N = np.exp(difference_N.clip(-MAX_DIFFERENCE, MAX_DIFFERENCE))
    return {
        "sampling/sampling_logp_difference/mean": float(size_N.mean()),
        "sampling/sampling_logp_difference/p99": float(np.quantile(size_N, 0.99)),
        "sampling/sampling_logp_difference/max": float(size_N.max()),
        "sampling/importance_sampling_ratio/mean": float(weights_N.mean()),
        "sampling/importance_sampling_ratio/min": float(weights_N.min()),
        "sampling/importance_sampling_ratio/p01": float(np.quantile(weights_N, 0.01)),
        "sampling/importance_sampling_ratio/p99": float(np.quantile(weights_N, 0.99)),
        "sampling/importance_sampling_ratio/max": float(weights_N.max()),
        "sampling/effective_sample_size": float(weights_N.sum() ** 2 / (len(weights_N) * (weights_N**2).sum())),
        "sampling/mismatch_kl": float((weights_N - 1 - difference_N).mean()),
        "sampling/dropped": stats.dropped,
        "policy_ratio/min": float(np.exp(log_ratio_N.min())),
        "policy_ratio/p99": float(np.exp(np.quantile(log_ratio_N, 0.99))),
        "policy_ratio/max": float(np.exp(log_ratio_N.max())),
    }


def publish_metrics(publication: Publication) -> dict[str, float]:
    return {
        "version": float(publication.version),
        "publish/probe_difference": publication.probe_difference,
        "publish/near_tie": float(publication.near_tie),
        "publish/num_tensors": float(publication.num_tensors),
        "publish/num_bytes": float(publication.num_bytes),
        "time/publish_s": publication.seconds,
    }
