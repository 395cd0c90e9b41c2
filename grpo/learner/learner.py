"""One step of GRPO on the samples of a step: one optimizer update per minibatch."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from grpo.datatypes import Batch, Row, Sample
from grpo.errors import NonFiniteError
from grpo.learner.optimizer import Optimizer
from grpo.learner.policy import Policy
from grpo.objective import Answers, Terms, Tokens, objective_terms
from grpo.objective.kl import KL_ESTIMATORS
from grpo.packing import pack
from grpo.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """What one step did. Per-token arrays cover every loss token of the step, once per update."""

    loss: float
    grad_norm: float
    learning_rate: float
    num_updates: int
    num_tokens: int  # of all packed rows, prompts included
    entropy: float
    kl: float | None
    clipped_low: float  # share of loss tokens
    clipped_high: float
    dropped: float  # share of loss tokens whose policy term the correction has taken out
    difference_N: np.ndarray = field(repr=False)  # log old - log behavior, nats
    log_ratio_N: np.ndarray = field(repr=False)  # log policy - log old, nats


ENTROPY_TIE = 1e-6  # nats: the first tokens of a group's answers have one distribution, but for rounding


class Learner:
    """Holds the policy that learns, its optimizer and, where ``beta`` asks for it, the reference."""

    def __init__(self, policy: Policy, recipe: Recipe) -> None:
        algorithm = recipe.algorithm
        self.policy = policy
        max_updates = recipe.max_steps * algorithm.updates_per_step
        self.optimizer = Optimizer(
            policy.model,
            recipe.learner,
            max_updates=max_updates,
            kept_in=policy.kept_in,
            layout=None if policy.mesh.is_alone else policy.layout,
        )
        self.reference = policy.frozen_copy() if algorithm.beta else None
        self._recipe = recipe
        self._algorithm = algorithm

    @property
    def num_updates(self) -> int:
        return self.optimizer.num_updates

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See ``Policy.named_tensors``; this and the next two are what a publish is proven by."""
        return self.policy.named_tensors()

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self.policy.score(token_ids)

    def router_margin(self, token_ids: Sequence[int]) -> float:
        return self.policy.router_margin(token_ids)

    def save(self, folder: Path) -> None:
        """The policy, as transformers and ``vllm serve`` load it."""
        self.policy.save(folder)

    def state_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """What a resumed run needs beyond the policy itself: the optimizer's, and the reference."""
        for name, tensor in self.optimizer.tensors():
            yield f"optimizer/{name}", tensor
        if self.reference is not None:
            for name, tensor in self.reference.whole_state():
                yield f"reference/{name}", tensor

    def load_state(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        """Take back what ``state_tensors`` gave, over a policy of the same moment; on any number of processes."""
        self.optimizer.load_tensors(_Below("optimizer/", tensors), num_updates)
        if self.reference is not None:
            self.reference.load_whole_state(_Below("reference/", tensors))

    @torch.no_grad()
    def with_old_logprobs(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with ``old_logprobs`` of the policy as it is now: call it at the version that sampled them."""
        logprobs = self._by_sample(samples, self.policy)
        return [replace(sample, old_logprobs_L=own) for sample, own in zip(samples, logprobs, strict=True)]

    @torch.no_grad()
    def kl(self, samples: Sequence[Sample]) -> list[float]:
        """KL of each answer, in nats: the estimates added up over its loss tokens, between the policy as it is now (or
        the ``old_logprobs`` that samples have) and the reference."""
        old = [sample.old_logprobs_L for sample in samples if sample.old_logprobs_L is not None]
        if len(old) < len(samples):
            old = self._by_sample(samples, self.policy)
        assert self.reference is not None, "there is no KL where beta is 0"
        ref = self._by_sample(samples, self.reference)
        estimate = KL_ESTIMATORS[self._algorithm.kl_estimator]
        return [
            float(estimate(*(torch.from_numpy(values[sample.loss_mask_L]).double() for values in (ours, theirs))).sum())
            for sample, ours, theirs in zip(samples, old, ref, strict=True)
        ]

    def _by_sample(self, samples: Sequence[Sample], policy: Policy) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities of each sample's loss tokens, (L,) each; zeros elsewhere."""
        if not samples:
            return []
        done = [np.zeros(len(sample.token_ids_L), np.float32) for sample in samples]
        found: list[tuple[tuple[int, ...], tuple[int, ...], np.ndarray]] = []
        rows = self._share(self._pack(samples))
        for row, logprobs_N in zip(rows, policy.logprobs(rows, temperature=self._temperature), strict=True):
            logprobs_T = np.zeros(len(row.token_ids_T), np.float32)
            logprobs_T[self.policy.owned(row)] = logprobs_N
            found.append((row.members, row.boundaries, logprobs_T))
        for members, boundaries, logprobs_T in itertools.chain.from_iterable(self.policy.mesh.gather(found)):
            for member, start, end in zip(members, boundaries, boundaries[1:], strict=False):
                done[member] += logprobs_T[start:end]  # of what other processes own, a row has zeros
        return done

    def step(self, samples: Sequence[Sample]) -> StepStats:
        """Update the policy on all samples of a step, in ``num_minibatches`` parts, ``num_iterations`` times over.

        Parts are taken in the order given. Samples without ``old_logprobs`` are those that the policy, as it is now,
        is taken to have sampled.

        Raises:
            NonFiniteError: the loss or the gradient is not a number; the weights are those before that update.
        """
        if self._algorithm.old == "behavior":
            samples = [replace(sample, old_logprobs_L=sample.behavior_logprobs_L) for sample in samples]
        num_minibatches = min(self._algorithm.num_minibatches, len(samples))
        parts = np.array_split(np.arange(len(samples)), num_minibatches) * self._algorithm.num_iterations
        assert len(parts) == 1 or all(sample.old_logprobs_L is not None for sample in samples), (
            "from the second update on, the policy is no longer the one that sampled"
        )
        tallies = [self._update([samples[i] for i in part]) for part in parts]
        return _summarize(tallies)

    def refresh_reference(self) -> None:
        """Replace the reference by the policy (R1-Zero: every 400 steps), or by its ``ref_model_mixup_alpha`` part."""
        assert self.reference is not None, "there is no reference to refresh where beta is 0"
        self.reference.mix_in(self.policy, self._algorithm.ref_model_mixup_alpha)

    def _update(self, samples: Sequence[Sample]) -> "_Tally":
        batch = self._pack(samples)
        num_tokens = sum(len(row.token_ids_T) for row in batch.rows)
        tally = _Tally(learning_rate=self.optimizer.learning_rate, num_tokens=num_tokens)
        rows = self._share(batch)
        reference, learned = self._reference_logprobs(rows), self._learned_tokens(rows)

        def loss_of(row: Row, policy_logprobs: Tensor, entropy_N: Tensor) -> Tensor:
            tokens = self._tokens(row, policy_logprobs, entropy_N, reference.get(id(row)), learned.get(id(row)))
            terms = objective_terms(tokens, self._algorithm)
            loss = (self._loss_tokens(row, row.weights_T) * terms.loss_N).sum()
            tally.add(float(loss.detach()), terms, tokens, bypass=self._algorithm.old == "behavior")
            return loss  # a weighted sum, so gradients of micro-batches simply add up

        self.policy.backward(
            rows,
            loss_of,
            temperature=self._temperature,
            after_row=self.optimizer.accumulate,
            entropy_gradient=self._algorithm.entropy_coef > 0,
        )
        tally = _sum(self.policy.mesh.gather(tally))
        if not np.isfinite(tally.loss):
            raise NonFiniteError(f"the loss is {tally.loss} at update {self.optimizer.num_updates}")
        tally.grad_norm = self.optimizer.step()
        return tally

    def _tokens(
        self,
        row: Row,
        policy_logprobs: Tensor,
        entropy_N: Tensor,
        ref_logprobs: Tensor | None,
        learned_N: Tensor | None,
    ) -> Tokens:
        """A row's loss tokens as the objective takes them: those that this process owns."""
        old_logprobs = policy_logprobs.detach()  # the learner has not moved since sampling, unless a row says so
        if row.old_logprobs_T is not None:
            old_logprobs = self._loss_tokens(row, row.old_logprobs_T)
        return Tokens(
            policy_logprobs_N=policy_logprobs,
            old_logprobs_N=old_logprobs,
            behavior_logprobs_N=self._loss_tokens(row, row.behavior_logprobs_T),
            ref_logprobs_N=ref_logprobs,
            advantages_N=self._loss_tokens(row, row.advantages_T),
            entropies_N=entropy_N,
            answers=self._answers(row),
            learned_N=learned_N,
        )

    def _answers(self, row: Row) -> Answers:
        answer_of_T = np.repeat(np.arange(len(row.boundaries) - 1), np.diff(row.boundaries))
        lengths_A = np.bincount(answer_of_T, weights=row.loss_mask_T, minlength=len(row.boundaries) - 1)
        return Answers(
            index_N=torch.from_numpy(answer_of_T[self.policy.owned(row)]).to(self.policy.device),
            lengths_A=torch.from_numpy(lengths_A).to(self.policy.device, self.policy.loss_dtype),
            share=self.policy.mesh.sum_over_context,
        )

    def _learned_tokens(self, rows: Sequence[Row]) -> dict[int, Tensor]:
        """Where the policy term counts, by each row's identity: the update's tokens of highest entropy, as the policy
        is now (arXiv 2506.01939). Nothing where all count."""
        quantile = self._algorithm.top_entropy_quantile
        if quantile == 1:
            return {}
        entropies = self.policy.entropies(rows, temperature=self._temperature)
        every = itertools.chain.from_iterable(self.policy.mesh.gather(entropies))
        values = np.concatenate([np.asarray(values_N, np.float64) for values_N in every])
        threshold = np.quantile(values, 1 - quantile) - ENTROPY_TIE if len(values) else 0.0
        device = self.policy.device
        return {
            id(row): torch.from_numpy(own >= threshold).to(device) for row, own in zip(rows, entropies, strict=True)
        }

    def _reference_logprobs(self, rows: Sequence[Row]) -> dict[int, Tensor]:
        """By each row's identity; nothing where no reference has a part in the loss."""
        if self.reference is None or self._algorithm.kl_in == "reward":
            return {}
        found = self.reference.logprobs(rows, temperature=self._temperature)
        device, dtype = self.policy.device, self.policy.loss_dtype
        return {id(row): torch.from_numpy(own).to(device, dtype) for row, own in zip(rows, found, strict=True)}

    @property
    def _temperature(self) -> float:
        return self._recipe.rollout.temperature

    def _loss_tokens(self, row: Row, values_T: np.ndarray) -> Tensor:
        return torch.from_numpy(values_T[self.policy.owned(row)]).to(self.policy.device, self.policy.loss_dtype)

    def _share(self, batch: Batch) -> list[Row]:
        """The rows that this process works on. All have equally many, because FSDP gathers parameters at every row:
        a share that has fewer is made up with rows that weigh nothing."""
        mesh = self.policy.mesh
        shares = mesh.assign([_cost(row) for row in batch.rows])
        rows = [batch.rows[index] for index in sorted(shares[mesh.share])]
        return rows + [_IDLE] * (max(map(len, shares)) - len(rows))

    def _pack(self, samples: Sequence[Sample]) -> Batch:
        return pack(
            samples,
            self._algorithm.loss_type,
            max_completion_length=self._recipe.rollout.max_completion_length,
            row_tokens=self._row_tokens([len(sample.token_ids_L) for sample in samples]),
        )

    def _row_tokens(self, lengths: Sequence[int]) -> int:
        """As the recipe says, or less, where that gives each share as many rows as the others."""
        limit, num_shares = self._recipe.learner.row_tokens, self.policy.mesh.num_shares
        if num_shares == 1:
            return limit
        num_rows = num_shares * math.ceil(sum(lengths) / limit / num_shares)
        room = sum(lengths) / num_rows + sum(lengths) / len(lengths)  # for a row that no sample fills up exactly
        return min(limit, max(math.ceil(room), *lengths))


class _Below(Mapping[str, Tensor]):
    """The tensors whose names begin with a prefix, by the rest of their names; read when asked for."""

    def __init__(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        self._prefix, self._tensors = prefix, tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._tensors if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _cost(row: Row) -> float:
    """In tokens: attention grows with the square of each sample's length; at 8,000 tokens it costs about as much as
    all else of a token."""
    lengths = np.diff(row.boundaries)
    return float(lengths.sum() + (lengths**2).sum() / 8192)


_IDLE = Row(
    members=(),
    boundaries=(0, 2),
    token_ids_T=np.zeros(2, np.int64),
    position_ids_T=np.arange(2),
    loss_mask_T=np.zeros(2, bool),
    weights_T=np.zeros(2),
    advantages_T=np.zeros(2),
    behavior_logprobs_T=np.zeros(2, np.float32),
    old_logprobs_T=None,
)


@dataclass(slots=True)
class _Tally:
    """Sums over the rows of one update."""

    learning_rate: float
    grad_norm: float = 0.0
    loss: float = 0.0
    num_tokens: int = 0  # of all processes' rows together
    entropy: float = 0.0  # summed over loss tokens, as are those below
    kl: float | None = None
    clipped_low: int = 0
    clipped_high: int = 0
    dropped: int = 0
    differences: list[np.ndarray] = field(default_factory=list)  # log old - log behavior
    log_ratios: list[np.ndarray] = field(default_factory=list)  # log policy - log old

    def add(self, loss: float, terms: Terms, tokens: Tokens, *, bypass: bool) -> None:
        """``bypass``: the old policy is the engine's, so what the learner makes of its answers is the policy's now."""
        self.loss += loss
        self.entropy += float(tokens.entropies_N.detach().sum())
        if terms.kl_N is not None:
            self.kl = (self.kl or 0.0) + float(terms.kl_N.sum())
        self.clipped_low += int(terms.clipped_low_N.sum())
        self.clipped_high += int(terms.clipped_high_N.sum())
        self.dropped += int((terms.correction_N == 0).sum())
        learners = tokens.policy_logprobs_N.detach() if bypass else tokens.old_logprobs_N
        self.differences.append((learners - tokens.behavior_logprobs_N).cpu().numpy())
        self.log_ratios.append(tokens.log_ratio_N.detach().cpu().numpy())


def _sum(tallies: Sequence[_Tally]) -> _Tally:
    """Of one update, over the processes that had a share in it."""
    kls = [tally.kl for tally in tallies if tally.kl is not None]
    return _Tally(
        learning_rate=tallies[0].learning_rate,
        loss=sum(tally.loss for tally in tallies),
        num_tokens=tallies[0].num_tokens,
        entropy=sum(tally.entropy for tally in tallies),
        kl=sum(kls) if kls else None,
        clipped_low=sum(tally.clipped_low for tally in tallies),
        clipped_high=sum(tally.clipped_high for tally in tallies),
        dropped=sum(tally.dropped for tally in tallies),
        differences=[part for tally in tallies for part in tally.differences],
        log_ratios=[part for tally in tallies for part in tally.log_ratios],
    )


def _summarize(tallies: Sequence[_Tally]) -> StepStats:
    difference_N = np.concatenate([part for tally in tallies for part in tally.differences])
    num_loss_tokens = max(1, len(difference_N))
    kls = [tally.kl for tally in tallies if tally.kl is not None]
    return StepStats(
        loss=float(np.mean([tally.loss for tally in tallies])),
        grad_norm=float(np.mean([tally.grad_norm for tally in tallies])),
        learning_rate=tallies[-1].learning_rate,
        num_updates=len(tallies),
        num_tokens=sum(tally.num_tokens for tally in tallies),
        entropy=sum(tally.entropy for tally in tallies) / num_loss_tokens,
        kl=sum(kls) / num_loss_tokens if kls else None,
        clipped_low=sum(tally.clipped_low for tally in tallies) / num_loss_tokens,
        clipped_high=sum(tally.clipped_high for tally in tallies) / num_loss_tokens,
        dropped=sum(tally.dropped for tally in tallies) / num_loss_tokens,
        difference_N=difference_N,
        log_ratio_N=np.concatenate([part for tally in tallies for part in tally.log_ratios]),
    )
