"""The loop: Group Relative Policy Optimization (arXiv 2402.03300, algorithm 1) as R1-Zero ran it (arXiv 2501.12948).

    for each step:
        sample G answers to each of P problems from the policy        rollout, engine
        score every answer by rule                                    rollout, rewards
        advantage of an answer = its reward against its group's       advantages
        maximize the clipped objective on all tokens of the step      learner, packing, loss
        publish the new weights to the engine, and prove it           weights

There is one loop, not a synchronous and an asynchronous one: ``max_staleness`` only bounds what the buffer admits.
At 0 a step learns from what was just sampled; at 1 the next step's groups are sampled before this one learns.
"""

import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grpo.advantages import ready_group, teaches, to_samples, with_advantages
from grpo.buffer import Buffer, RejectReason
from grpo.chain import Chain, Record, sampled
from grpo.checkpoint_store import CheckpointStore
from grpo.console import Console
from grpo.datatypes import Group, ReadyGroup, Sample
from grpo.errors import CheckpointError, VerifierError
from grpo.evaluation import Evaluation
from grpo.failure_watch import MAX_UNSCORED, FailureWatch
from grpo.learner import Learner
from grpo.metrics import Metrics
from grpo.recipe import Recipe
from grpo.rollout import Rollout
from grpo.run_folder import RunFolder
from grpo.run_state import Progress, restore, run_state
from grpo.step_metrics import learning_metrics, publish_metrics, sampling_metrics
from grpo.stored_state import load_state, save_state
from grpo.surroundings import check_same
from grpo.transcripts import ledger_record, transcript_record
from grpo.weights import Publisher

STOP_MARGIN = 1.5  # of the longest step and the longest save so far: what max_time leaves for the next ones
MISMATCH_ALARM = 0.5  # nats; bf16 on both sides shows up to 0.2
TRAINER_STATE = "trainer_state"


@dataclass(slots=True, kw_only=True)
class Trainer:
    """Runs the loop over parts that others built (``launch.py``).

    Attributes:
        evaluate: the policy's held-out evaluation through the engine, at the version that it holds.
        source: the held-out dataset, as metric names have it.
        take_side_metrics: what verdicts and tools took since the last call.
        save_model: writes the policy and its tokenizer into a folder.
        surroundings: what shapes the run besides its recipe (``surroundings.py``), kept with each checkpoint.
    """

    recipe: Recipe
    rollout: Rollout
    buffer: Buffer
    learner: Learner
    publisher: Publisher
    evaluate: Callable[[], Evaluation]
    source: str
    take_side_metrics: Callable[[], dict[str, float]]
    save_model: Callable[[Path], None]
    folder: RunFolder
    checkpoints: CheckpointStore
    metrics: Metrics
    console: Console
    surroundings: dict[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    started_at: float = field(default_factory=time.monotonic)  # what max_time counts from
    stop_requested: bool = False  # set from outside: finish the step, save, raise KeyboardInterrupt
    _longest: dict[str, float] = field(default_factory=lambda: {"step": 0.0, "evaluation": 0.0})  # s
    _values: dict[str, float] = field(default_factory=dict)  # what the current step will log
    _scores: dict[str, float] = field(default_factory=dict)  # what was logged of the step that is done
    _done: Record = field(default_factory=dict)  # what the current step will chain

    def train(self) -> Evaluation:
        """Train to ``max_steps``, evaluate at both ends and in between, save; returns the last evaluation.

        Raises:
            RunError: the run cannot go on; everything up to the last checkpoint stands.
            KeyboardInterrupt: a stop was requested, or the next step might not end within ``max_time``; the step it
                fell into is finished and saved.
        """
        self._publish()
        if self.progress.before is None:
            self.progress.before = self._evaluate().to_json()
        while self.buffer.step < self.recipe.max_steps:
            self._step()
            if self._due(self.recipe.evaluation.every):
                self._evaluate()
            self._stop_in_time()
            if self._due(self.recipe.checkpoint.every) or self.stop_requested:
                self.save()
            if self.stop_requested:
                self.checkpoints.wait()
                raise KeyboardInterrupt
            self.checkpoints.raise_failure()
        return self._finish()

    def replay(self, until: int) -> Iterator[int]:
        """Run the steps up to this one once more, yielding each: no evaluation, no checkpoint."""
        self._publish()
        while self.buffer.step < until:
            self._step()
            yield self.buffer.step

    def _step(self) -> None:
        started = time.perf_counter()
        groups = self._collect()
        self._learn(groups)
        self._publish()
        seconds = time.perf_counter() - started
        self._longest["step"] = max(self._longest["step"], seconds)
        self._log_step(seconds)

    def _stop_in_time(self) -> None:
        """Request a stop where another step, evaluation and save might not fit into ``max_time``."""
        left = self.recipe.max_seconds - (time.monotonic() - self.started_at)
        to_come = sum(self._longest.values()) + (self.checkpoints.longest_s or self._longest["step"])
        if not self.stop_requested and left < STOP_MARGIN * to_come:
            self.stop_requested = True
            self.console.say(f"max_time {self.recipe.max_time} is near: saving and ending here")

    def _finish(self) -> Evaluation:
        """The last evaluation and checkpoint, each unless the last step has brought it already."""
        if short := self.progress.num_short_steps:
            self.console.say(
                f"{short} of {self.buffer.step} steps used up max_refill_groups and learned from fewer groups"
            )
        latest, step = self.progress.latest, self.progress.latest_step
        after = Evaluation.from_json(latest) if latest and step == self.buffer.step else self._evaluate()
        if self.checkpoints.newest_step != self.buffer.step:
            self.save()
        self.checkpoints.wait()
        return after

    def _collect(self) -> tuple[ReadyGroup, ...]:
        """Sample what admission allows until the groups that this step learns from are there."""
        groups: list[Group] = []
        taken = None
        while taken is None:
            groups += self._sample(self.buffer.admissible())
            refills = self.buffer.num_refills
            taken = self.buffer.take()
        cap_reached = len(taken) < self.buffer.groups_per_step
        self._check_scored(groups)
        self._values |= sampling_metrics(groups) | self.take_side_metrics()
        self._add("time/sample_s", -self._values["time/score_s"])
        num_tokens = sum(member.completion.num_tokens for group in groups for member in group.members)
        self._values["tokens_per_second/engine"] = num_tokens / self._values["time/sample_s"]
        self._values |= {"refills": refills, "refill_cap_reached": float(cap_reached), "groups/trained": len(taken)}
        self._values["groups/rejected"] = self._record(groups)
        self._done |= sampled(groups)
        if cap_reached:
            self._count_short_step(len(taken))
        return taken

    def _sample(self, num_groups: int) -> list[Group]:
        """Sample and score new groups; those that teach something become samples, the others end in the ledger."""
        started = time.perf_counter()
        groups = self.rollout.sample([self.buffer.start() for _ in range(num_groups)])
        self._add("time/sample_s", time.perf_counter() - started)
        ready = []
        for group in groups:
            if reason := self._teaches_nothing(group):
                self.buffer.reject(group, reason)
            else:
                ready.append(group)
        for finished in self._finished(ready):
            self.buffer.finish(finished)
        return groups

    def _teaches_nothing(self, group: Group) -> RejectReason | None:
        rollout = self.recipe.rollout
        if len(group.scored) < 2:
            return "unscored"
        algorithm = self.recipe.algorithm
        pulls = (algorithm.beta > 0 or algorithm.entropy_coef > 0) and not rollout.max_refill_groups
        if not pulls and not teaches(group, algorithm, self._weights):
            return "zero_variance"
        return None if rollout.min_pass_rate <= group.pass_rate <= rollout.max_pass_rate else "pass_rate"

    def _finished(self, groups: Sequence[Group]) -> list[ReadyGroup]:
        """Groups as the learner takes them. ``old_logprobs`` and the KL in the reward are computed now, at the version
        that sampled, where the learner will have moved by the time it learns from them."""
        algorithm = self.recipe.algorithm
        samples = [
            s for group in groups for s in to_samples(group, mask_truncated=algorithm.mask_truncated_completions)
        ]
        will_move = self.recipe.rollout.max_staleness > 0 or algorithm.updates_per_step > 1
        if algorithm.old == "recompute" and will_move:
            started = time.perf_counter()
            samples = self.learner.with_old_logprobs(samples)
            self._add("time/old_logprobs_s", time.perf_counter() - started)
        penalties = self._penalties(samples)
        ends = np.cumsum([len(group.scored) for group in groups])
        return [
            ready_group(group, samples[end - len(group.scored) : end], penalties[end - len(group.scored) : end])
            for group, end in zip(groups, ends, strict=True)
        ]

    def _penalties(self, samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
        """What each answer's reward loses to its KL."""
        algorithm = self.recipe.algorithm
        if not algorithm.beta or algorithm.kl_in == "loss":
            return np.zeros(len(samples))
        started = time.perf_counter()
        kl = np.array(self.learner.kl(samples), dtype=np.float64)
        self._add("time/old_logprobs_s", time.perf_counter() - started)
        self._add("kl", float(kl.sum()))  # by token when the step is logged
        self._add("num_kl_tokens", sum(int(sample.loss_mask_L.sum()) for sample in samples))
        return algorithm.beta * kl

    def _learn(self, groups: Sequence[ReadyGroup]) -> None:
        """One step of the learner; a step to which no group came leaves the policy as it is."""
        samples = with_advantages(groups, self.recipe.algorithm, self._weights)
        if any(sample.loss_mask_L.any() for sample in samples):
            self._update(samples)
        every = self.recipe.algorithm.ref_model_sync_steps
        if every and self.buffer.step % every == 0:
            self.learner.refresh_reference()

    def _update(self, samples: Sequence[Sample]) -> None:
        started = time.perf_counter()
        stats = self.learner.step(samples)
        seconds = time.perf_counter() - started
        self.progress.num_tokens += stats.num_tokens
        self._values |= learning_metrics(samples, stats, self.progress.version)
        self._done |= {"loss": stats.loss, "grad_norm": stats.grad_norm}
        self._alarm(self._values["sampling/sampling_logp_difference/p99"])
        self._values |= {"time/learn_s": seconds, "tokens_per_second/learner": stats.num_tokens / seconds}

    def _publish(self) -> None:
        """Send the weights as the next version and prove their arrival; once at the start, as the current one."""
        version = self.buffer.step
        publication = self.publisher.publish(version)
        self.progress.version = version
        self._values |= publish_metrics(publication)
        self._done["weights"] = publication.weights

    def _evaluate(self) -> Evaluation:
        started = time.perf_counter()
        with self.console.busy("evaluating on held-out problems"):
            evaluation = self.evaluate()
        seconds = time.perf_counter() - started
        self._longest["evaluation"] = max(self._longest["evaluation"], seconds)
        values = evaluation.metrics(self.source)
        self.metrics.log(self.buffer.step, values | {"time/evaluate_s": seconds})
        self._scores |= values | dict(evaluation.values)
        record = evaluation.to_json()
        self.folder.evaluations.append({"step": self.buffer.step, **record})
        self.progress.latest, self.progress.latest_step = record, self.buffer.step
        return evaluation

    @property
    def _weights(self) -> dict[str, float]:
        return {reward.label: reward.weight for reward in self.recipe.rewards}

    def _log_step(self, seconds: float) -> None:
        if num_tokens := self._values.pop("num_kl_tokens", 0.0):
            self._values["kl"] /= num_tokens
        self._values |= {
            "num_updates": self.learner.num_updates,
            "num_tokens": self.progress.num_tokens,
            "step_time": seconds,
            "memory/peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        self.metrics.log(self.buffer.step, self._values)
        Chain(self.folder).append(self.buffer.step, self._done, self._values)
        self._scores, self._values, self._done = self._values, {}, {}

    def _record(self, sampled: Sequence[Group]) -> int:
        """Write the ledger and a few transcripts; returns how many groups were rejected."""
        entries = self.buffer.drain_ledger()
        for entry in entries:
            self.folder.ledger.append(ledger_record(entry))
        members = [member for group in sampled for member in group.members]
        wanted = min(self.recipe.log.transcripts_per_step, len(members))
        for at in np.linspace(0, len(members) - 1, wanted).round().astype(int):
            record = transcript_record(self.buffer.step, members[at])
            self.folder.transcripts.append(record)
            self.console.transcript(record)
        return sum(entry.end == "rejected" for entry in entries)

    def _alarm(self, p99: float) -> None:
        """The third layer of the publish proof: a distance on sampled tokens that rounding does not explain."""
        if p99 > MISMATCH_ALARM and not self.progress.alarmed:
            self.progress.alarmed = True
            self.console.say(
                f"alarm at step {self.buffer.step}: engine and learner differ by {p99:.2g} nats on 1% of the sampled "
                "tokens (sampling/sampling_logp_difference/p99); every publish was proven, so look at precision first"
            )

    def _check_scored(self, groups: Sequence[Group]) -> None:
        if FailureWatch(self.progress.unscored).stops_at(groups):
            members = [member for group in groups for member in group.members]
            unscored = [member for member in members if member.reward is None]
            name, verdict = next((n, v) for n, v in unscored[0].verdicts.items() if v.score is None)
            raise VerifierError(
                f"{len(unscored)} of {len(members)} answers could not be scored (allowed {MAX_UNSCORED:.0%}): reward "
                f"'{name}' failed with: {verdict.reason}. Mend it, then go on from the last checkpoint with --resume"
            )

    def save(self) -> None:
        """Save a checkpoint of the run as it is now; what is more than copying goes on in the background."""
        started = time.perf_counter()
        score = self._scores.get(self.recipe.checkpoint.metric_for_best_model or "", math.nan)
        self.checkpoints.save(self.buffer.step, self._write_checkpoint, flush_others=self.folder.sync, score=score)
        self._add("time/checkpoint_s", time.perf_counter() - started)

    def _write_checkpoint(self, folder: Path) -> None:
        self.save_model(folder)
        tensors, state = run_state(self.learner, self.buffer, self.progress)
        outside = {"positions": self.folder.positions(), "surroundings": self.surroundings}
        outside |= {"publisher": self.publisher.state()}
        save_state(folder / TRAINER_STATE, tensors, state | outside)

    def restore(self, checkpoint: Path, *, allow_change: bool = False) -> None:
        """Go on from a checkpoint: the learner's policy must have been loaded from it.

        Raises:
            CheckpointError: packages or data are others than then, and ``allow_change`` is off; or a file of the run
                lacks lines that the checkpoint knows of.
        """
        tensors, state = load_state(checkpoint / TRAINER_STATE)
        for change in check_same(state.get("surroundings", {}), self.surroundings, allow_change=allow_change):
            self.console.say(f"allowed: since the checkpoint, {change}")
        restore(self.learner, self.buffer, self.progress, tensors, state)
        self.publisher.restore(state.get("publisher", {}))
        self.checkpoints.newest_step = self.buffer.step  # a run that was done saves it no second time
        self.folder.truncate(state["positions"])
        self._check_accounted(checkpoint)

    def _check_accounted(self, checkpoint: Path) -> None:
        """Every problem that was started has its end in the ledger, or waits for its step: none is skipped."""
        ended, waiting, started = self.folder.ledger.num_lines(), len(self.buffer.ready), self.buffer.next_ordinal
        if ended + waiting != started:
            raise CheckpointError(
                f"checkpoint {checkpoint} began {started} problems, of which the ledger has {ended} and {waiting} wait "
                "to be learned from: the others would be skipped. Resume from another checkpoint of the run"
            )

    def _due(self, every: int) -> bool:
        return bool(every) and self.buffer.step % every == 0

    def _count_short_step(self, num_taken: int) -> None:
        """Said in full the first time; ``_finish`` says how often it came to that in all."""
        if not self.recipe.rollout.max_refill_groups:
            return  # no refilling was asked for, and the metrics say how many groups were learned from
        self.progress.num_short_steps += 1
        if self.progress.num_short_steps > 1:
            return
        self.console.say(
            f"step {self.buffer.step}: learning from {num_taken} of {self.buffer.groups_per_step} groups: the "
            f"others teach nothing, and max_refill_groups = {self.recipe.rollout.max_refill_groups} is used up"
        )

    def _add(self, name: str, value: float) -> None:
        self._values[name] = self._values.get(name, 0.0) + value
