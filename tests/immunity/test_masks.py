"""Loss masks guessed from pad or end tokens. Here they follow from who wrote each token."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tests.unit.test_advantages as invariants
from grpo.advantages import to_samples
from grpo.datatypes import Completion, Group
from grpo.engine.protocol import Request, Sampling
from grpo.engine.transformers_engine import TransformersEngine
from grpo.learner import Learner, Policy
from grpo.step_metrics import learning_metrics
from grpo.trainer import MISMATCH_ALARM
from tests.factories import make_prompt, make_recipe, make_scored
from tests.immunity.runs import learner_of

END = 1  # of the tiny models, whose pad token is the same
MAX_TOKENS = 12


def sampled(policy: Policy, num_answers: int = 24) -> Group:
    """Real answers, some ended by END and some cut off."""
    engine = TransformersEngine(policy.model, rollout=make_recipe().rollout, decode=str)
    prompt, sampling = make_prompt(), Sampling(max_tokens=MAX_TOKENS, stop_token_ids=(END,))
    requests = [Request(prompt=prompt, sample_index=i, seed=i, sampling=sampling) for i in range(num_answers)]
    answers = sorted(engine.sample(requests), key=lambda answer: answer.sample_index)
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    return Group(prompt=prompt, members=tuple(make_scored(answer, float(i)) for i, answer in enumerate(answers)))


def check_every_sampled_token_counts(group: Group) -> None:
    """The one that ended the answer included; of a sample, nothing else."""
    for sample, member in zip(to_samples(group, mask_truncated=False), group.members, strict=True):
        assert int(sample.loss_mask_L.sum()) == member.completion.num_tokens
        assert len(sample.loss_mask_L) == sample.prompt_length + member.completion.num_tokens


def check_a_tools_tokens_do_not_count() -> None:
    invariants.test_a_sample_is_prompt_then_answer_and_the_loss_counts_what_the_policy_wrote()


def test_an_end_token_that_is_also_the_pad_token_stays_in_the_loss(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = sampled(policy)
    check_every_sampled_token_counts(group)
    monkeypatch.setattr(Completion, "loss_mask", property(lambda self: self.token_ids != END))
    with pytest.raises(AssertionError):
        check_every_sampled_token_counts(group)
    with pytest.raises(AssertionError):
        check_a_tools_tokens_do_not_count()


def up_to_the_first_end(self: Completion) -> np.ndarray:
    """All of it where there is no end."""
    ended = self.token_ids == END
    return (ended.cumsum() - ended) == 0


def test_a_mask_that_runs_to_the_end_token_takes_in_what_nobody_sampled(
    policy: Policy, dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_a_tools_tokens_do_not_count()
    monkeypatch.setattr(Completion, "loss_mask", property(up_to_the_first_end))
    with pytest.raises(AssertionError):
        check_a_tools_tokens_do_not_count()
    monkeypatch.undo()

    group = sampled(policy)
    learner = learner_of(dense_folder, make_recipe())
    assert mismatch(learner, group) < 1e-4
    monkeypatch.setattr(Completion, "token_ids", property(lambda self: padded(self, "token_ids", END)))
    monkeypatch.setattr(Completion, "behavior_logprobs", property(lambda self: padded(self, "behavior_logprobs", 0)))
    monkeypatch.setattr(Completion, "loss_mask", property(up_to_the_first_end))
    cut = Group(prompt=group.prompt, members=tuple(m for m in group.members if m.completion.num_tokens == MAX_TOKENS))
    assert mismatch(learner, cut) > MISMATCH_ALARM  # padding has no log-probability of an engine's


def padded(answer: Completion, name: str, filler: int) -> np.ndarray:
    """As in a batch of answers twice as long."""
    own = np.concatenate([getattr(segment, name) for segment in answer.segments])
    return np.concatenate([own, np.full(2 * MAX_TOKENS - len(own), filler, own.dtype)])


def mismatch(learner: Learner, group: Group) -> float:
    """What the trainer's alarm looks at, in nats; advantages of 0 leave the policy as it is."""
    samples = [replace(sample, advantage=0.0) for sample in to_samples(group, mask_truncated=False)]
    return learning_metrics(samples, learner.step(samples), version=0)["sampling/sampling_logp_difference/p99"]
