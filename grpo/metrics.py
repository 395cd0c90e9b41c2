"""Every metric name in one registry. Where metrics go is in ``sinks.py``; ``docs/metrics.md`` is made here.

A name that is not in the registry cannot be logged, so a dashboard never holds a number that nobody can explain.
Names are TRL's for training, verl's for evaluation (``val-core/...``, ``val-aux/...``) and prime-rl's for expert
load, where those exist.
"""

import contextlib
import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from grpo.errors import GrpoError
from rewards.verdict import Status

PLACEHOLDERS = {
    "name": r"[^/]+",  # a reward function
    "source": r".+",  # a dataset; hub ids hold a slash
    "n": r"[1-9][0-9]*",  # a number of answers
    "status": "|".join(Status),
}
TIMING_PREFIXES = ("time/", "tokens_per_second/", "memory/", "verifier/", "engine/")


class UnknownMetricError(GrpoError, KeyError):
    """A metric was asked for under a name that the registry does not hold; ``nearest`` says which it may have meant."""

    def __init__(self, message: str, nearest: str) -> None:
        super().__init__(message)
        self.nearest = nearest

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show its repr


@dataclass(frozen=True, slots=True)
class Metric:
    """One registered name. ``{placeholders}`` in it stand for the patterns of ``PLACEHOLDERS``."""

    name: str
    unit: str
    meaning: str


SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Where the run stands": (
        Metric("num_updates", "updates", "Optimizer updates so far: num_minibatches x num_iterations a step."),
        Metric("version", "publishes", "Version of the weights that the engine holds: publishes so far."),
        Metric("num_tokens", "tokens", "Prompt and completion tokens that the learner has trained on since the start."),
    ),
    "Rewards, over the scored answers of a step": (
        Metric("reward", "reward", "Mean over scored answers of the weighted sum of rewards."),
        Metric("reward_std", "reward", "Mean over groups of the standard deviation of reward inside the group."),
        Metric("frac_reward_zero_std", "share", "Share of sampled groups whose answers all have one reward."),
        Metric("rewards/{name}/mean", "reward", "Mean of one reward function, before its weight."),
        Metric("rewards/{name}/std", "reward", "Standard deviation of one reward function, before its weight."),
        Metric("verdicts/{status}", "answers", "Verdicts of this status, over answers and reward functions."),
        Metric("audit/num_checked", "answers", "Passes that the auditor judged again (scoring.audit)."),
        Metric("audit/failed", "share", "Share of those that the auditor could not judge: it is no alarm then."),
        Metric(
            "audit/gap", "share", "Share of the others that it does not call correct: the alarm for reward hacking."
        ),
        Metric("tool/num_calls", "calls", "Programs that the policy had the tool run in the step."),
        Metric("tool/failed", "share", "Share of those that raised, ran past a limit, or did what is forbidden."),
        Metric("tool/use_rate", "share", "Share of sampled answers that called the tool and got its output."),
        Metric("time/tool_s", "seconds", "Spent in the tool, over all calls; the engine samples on meanwhile."),
        Metric("verifier/per_second", "verdicts/s", "Verdicts a second of work, over all reward functions."),
        Metric("verifier/queue_depth", "verdicts", "Verdicts still owed when the last answer was sampled."),
        Metric("verifier/retried", "verdicts", "Verdicts without a score that were asked for a second time."),
        Metric("verifier/replaced", "processes", "Verifier processes that were killed or died, and were replaced."),
        Metric("advantages/abs_mean", "advantage", "Mean size of the advantages of the answers learned from."),
    ),
    "Completions": (
        Metric("completions/mean_length", "tokens", "Mean length of the sampled answers."),
        Metric("completions/min_length", "tokens", "Length of the shortest sampled answer."),
        Metric("completions/max_length", "tokens", "Length of the longest sampled answer."),
        Metric("completions/clipped_ratio", "share", "Share of answers cut off at max_completion_length."),
    ),
    "Groups: where they went": (
        Metric("groups/trained", "groups", "Groups that this step learned from."),
        Metric(
            "groups/rejected", "groups", "Groups that this step sampled and did not learn from; the ledger says why."
        ),
        Metric("refills", "groups", "Groups sampled to replace zero-variance ones."),
        Metric("refill_cap_reached", "flag", "1 where max_refill_groups ended the refilling of this step, else 0."),
        Metric("off_policy/mean", "publishes", "Mean over trained answers of learner version minus sampling version."),
        Metric("off_policy/max", "publishes", "Largest learner version minus sampling version among trained answers."),
    ),
    "The update": (
        Metric("loss", "loss", "The weighted sum that was minimized, summed over the step's micro-batches."),
        Metric("grad_norm", "norm", "Global gradient norm before clipping."),
        Metric("learning_rate", "1", "Learning rate of the last update."),
        Metric("entropy", "nats", "Mean entropy of the policy per trained token."),
        Metric("kl", "nats", "Mean estimate of KL(policy || reference) per trained token, by kl_estimator."),
        Metric("clip_ratio/low_mean", "share", "Share of trained tokens let go at the lower bound of their ratio."),
        Metric("clip_ratio/high_mean", "share", "Share of trained tokens let go at the upper bound of their ratio."),
        Metric("policy_ratio/min", "ratio", "Smallest policy/old ratio of a trained token."),
        Metric("policy_ratio/p99", "ratio", "99th percentile of policy/old."),
        Metric("policy_ratio/max", "ratio", "Largest policy/old ratio of a trained token."),
    ),
    "How far the engine's log-probabilities are from the learner's": (
        Metric("sampling/sampling_logp_difference/mean", "nats", "Mean |old - behavior| log-probability."),
        Metric("sampling/sampling_logp_difference/p99", "nats", "99th percentile of |old - behavior|."),
        Metric("sampling/sampling_logp_difference/max", "nats", "Largest |old - behavior| log-probability."),
        Metric("sampling/importance_sampling_ratio/mean", "ratio", "Mean old/behavior ratio, before its cap."),
        Metric("sampling/importance_sampling_ratio/min", "ratio", "Smallest old/behavior ratio."),
        Metric("sampling/importance_sampling_ratio/p01", "ratio", "1st percentile of old/behavior."),
        Metric("sampling/importance_sampling_ratio/p99", "ratio", "99th percentile of old/behavior."),
        Metric("sampling/importance_sampling_ratio/max", "ratio", "Largest old/behavior ratio, before its cap."),
        Metric(
            "sampling/effective_sample_size", "share", "Of trained tokens: (sum of old/behavior)^2 / (n x its squares)."
        ),
        Metric("sampling/mismatch_kl", "nats", "Mean k3 estimate of KL(behavior || old) per trained token."),
        Metric("sampling/dropped", "share", "Share of trained tokens that the correction took out of the policy term."),
    ),
    "Publishing, and engines in processes of their own": (
        Metric("publish/probe_difference", "nats", "Largest difference of the probe text between learner and engine."),
        Metric(
            "publish/near_tie", "flag", "1 where a near-tie of experts set the first probe aside; the others agreed."
        ),
        Metric("publish/num_tensors", "tensors", "Tensors of the last publish, each proven to have arrived."),
        Metric("publish/num_bytes", "bytes", "Bytes of the last publish."),
        Metric(
            "publish/bytes_per_second", "bytes/s", "From the learner into every replica, the slowest one's end counts."
        ),
        Metric("engine/replicas", "replicas", "Engines in processes of their own that take part."),
        Metric("engine/restarts", "replicas", "Replicas that died and were started again in the step."),
        Metric("engine/imbalance", "ratio", "Longest over mean time that a replica sampled in the step."),
    ),
    "Held-out problems": (
        Metric("val-core/{source}/acc/mean@{n}", "share", "pass@1: mean accuracy over n answers per held-out problem."),
        Metric("val-core/{source}/acc/best@{n}", "share", "pass@n: chance that one of n answers is right, unbiased."),
        Metric("val-core/{source}/acc/maj@{n}", "share", "Accuracy of the majority of n answers, ties in expectation."),
        Metric("val-aux/{source}/mean_length", "tokens", "Mean length of the held-out answers."),
        Metric("val-aux/{source}/clipped", "share", "Share of held-out answers cut off at max_completion_length."),
        Metric("val-aux/{source}/reasons", "share", "Share of held-out answers with text inside their think tags."),
        Metric("val-aux/{source}/accuracy_given_reasoning", "share", "Accuracy of the held-out answers that reason."),
        Metric(
            "val-aux/{source}/uses_tool", "share", "Share of held-out answers that called the tool and got its output."
        ),
        Metric("val-aux/{source}/unscored", "share", "Share of held-out answers whose verifier failed."),
    ),
    "Seconds, rates and memory: all that may differ between two runs of one seed": (
        Metric("step_time", "seconds", "Wall clock of the step, evaluation and checkpoint apart."),
        Metric("time/sample_s", "seconds", "Waiting for the engine to sample."),
        Metric("time/score_s", "seconds", "Waiting for verdicts."),
        Metric(
            "time/old_logprobs_s",
            "seconds",
            "Log-probabilities at the sampling version, and the KL in the reward.",
        ),
        Metric("time/learn_s", "seconds", "Forward, backward and optimizer."),
        Metric("time/publish_s", "seconds", "Sending the weights and proving their arrival."),
        Metric("time/evaluate_s", "seconds", "Evaluating on held-out problems."),
        Metric(
            "time/checkpoint_s", "seconds", "Waiting for a checkpoint to be copied; the rest goes on in the background."
        ),
        Metric("tokens_per_second/engine", "tokens/s", "Completion tokens sampled over time/sample_s."),
        Metric("tokens_per_second/learner", "tokens/s", "Prompt and completion tokens learned over time/learn_s."),
        Metric("memory/peak_gb", "GiB", "Peak resident memory of this process since its start."),
    ),
}

METRICS = tuple(metric for section in SECTIONS.values() for metric in section)


def _compiled(name: str) -> re.Pattern[str]:
    """A regex for a registered name, its placeholders opened up."""
    parts = re.split(r"\{(\w+)\}", name)  # literal, placeholder, literal, ...
    return re.compile("".join(f"(?:{PLACEHOLDERS[p]})" if i % 2 else re.escape(p) for i, p in enumerate(parts)))


_PATTERNS = tuple((_compiled(metric.name), metric) for metric in METRICS)


@functools.lru_cache(maxsize=4096)
def check_name(name: str) -> Metric:
    """The registry's entry for a name.

    >>> check_name("rewards/format/mean").unit
    'reward'

    Raises:
        UnknownMetricError: no entry fits; the message names the nearest.
    """
    for pattern, metric in _PATTERNS:
        if pattern.fullmatch(name):
            return metric
    near = difflib.get_close_matches(name, [metric.name for metric in METRICS], n=1, cutoff=0.4)
    nearest = f"the nearest is '{near[0]}'" if near else "nothing is like it"
    raise UnknownMetricError(
        f"metric '{name}' is not registered; {nearest}. Add it to METRICS in grpo/metrics.py.", nearest
    )


def is_timing(name: str) -> bool:
    """Whether a metric may differ between two runs of one seed: seconds, rates, memory. All others must not.

    >>> is_timing("time/sample_s"), is_timing("engine/restarts"), is_timing("reward")
    (True, True, False)
    """
    return name == "step_time" or name.startswith(TIMING_PREFIXES)


def metrics_document() -> str:
    """`docs/metrics.md`: every name of the registry, by section."""
    lines = [
        "# Metrics",
        "",
        "Made from the registry in `grpo/metrics.py` by `make docs`. A name that is not here cannot be logged. Names",
        "are TRL's for training, verl's for evaluation and prime-rl's for expert load, where those exist. The run",
        "folder's `metrics.jsonl` has all; `log.report_to: [tensorboard]`, `[wandb]` or `[trackio]` shows them too.",
        "",
        "`{name}` stands for a reward, `{source}` for a dataset, `{n}` for a number of answers, `{status}` for one of "
        + ", ".join(f"`{status}`" for status in Status)
        + ".",
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", "| name | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{metric.name}` | {metric.unit} | {_cell(metric.meaning)} |" for metric in section]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


class Sink(Protocol):
    """Somewhere metrics go. ``step`` counts optimizer updates; one step may be logged in several calls."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Metrics:
    """Checks every name, then hands the values to each sink in turn."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values of one step.

        Raises:
            UnknownMetricError: a name is not registered; no sink has then seen any of the values.
        """
        for name in values:
            check_name(name)
        for sink in self._sinks:
            sink.log(step, values)

    def close(self) -> None:
        """Close each sink, also those after one that fails."""
        with contextlib.ExitStack() as stack:
            for sink in reversed(self._sinks):
                stack.callback(sink.close)
