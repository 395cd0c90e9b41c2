"""What the objective asks of the learner beyond log-probabilities: KL, entropies, more passes, a mixed reference."""

import numpy as np
import pytest
import torch

from grpo.learner import Learner, Policy
from grpo.objective.kl import KL_ESTIMATORS
from tests.factories import make_ragged_samples, make_recipe
from tests.unit.test_learner import assert_equal_weights, load_plain, load_policy, plain_logprobs, weights_of


def with_moved_reference(folder, **algorithm) -> Learner:
    learner = Learner(load_policy(folder), make_recipe(algorithm={"beta": 0.1, **algorithm}))
    with torch.no_grad():
        for parameter in learner.reference.model.parameters():
            parameter.mul_(1.1)
    return learner


def moved(plain):
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(1.1)
    return plain


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
@pytest.mark.parametrize("given", [False, True], ids=["policy_now", "old_logprobs"])
def test_kl_of_an_answer_is_the_sum_of_estimates_over_its_loss_tokens(dense_folder, estimator, given):
    learner = with_moved_reference(dense_folder, kl_in="reward", kl_estimator=estimator)
    samples = make_ragged_samples(3, 7, old=given)
    found = learner.kl(samples)
    plain, reference = load_plain(dense_folder), moved(load_plain(dense_folder))
    for sample, kl in zip(samples, found, strict=True):
        ours = sample.old_logprobs_L[sample.loss_mask_L] if given else plain_logprobs(plain, sample)[0]
        theirs = plain_logprobs(reference, sample)[0]
        expected = KL_ESTIMATORS[estimator](torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs)).sum()
        assert kl == pytest.approx(float(expected), rel=1e-4, abs=1e-5)
    assert max(map(abs, found)) > 0.01


def test_several_iterations_are_as_many_passes_with_the_old_policy_of_the_first(dense_folder):
    samples = Learner(load_policy(dense_folder), make_recipe()).with_old_logprobs(make_ragged_samples(7, 6, old=False))
    keys = {"num_minibatches": 2, "importance_sampling_correction": False}
    twice = Learner(load_policy(dense_folder), make_recipe(algorithm={**keys, "num_iterations": 2}))
    stats = twice.step(samples)
    once = Learner(load_policy(dense_folder), make_recipe(algorithm=keys))
    first, second = once.step(samples), once.step(samples)
    assert_equal_weights(weights_of(twice.policy), weights_of(once.policy))
    assert (stats.num_updates, twice.num_updates) == (4, 4)
    assert np.abs(first.log_ratio_N).max() < np.abs(second.log_ratio_N).max()


def test_a_reference_is_mixed_with_the_policy(dense_folder):
    learner = with_moved_reference(dense_folder, ref_model_sync_steps=1, ref_model_mixup_alpha=0.25)
    before, policy = weights_of(learner.reference), weights_of(learner.policy)
    learner.refresh_reference()
    for name, tensor in weights_of(learner.reference).items():
        torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * policy[name])


@pytest.mark.parametrize("chunk", [5, 10**6], ids=["in_chunks", "at_once"])
def test_the_entropy_bonus_has_the_gradient_of_the_entropy(dense_folder, monkeypatch, chunk):
    monkeypatch.setattr("grpo.learner.policy.LOGITS_AT_ONCE", chunk * load_plain(dense_folder).config.vocab_size)
    samples = make_ragged_samples(5, 6, old=False)
    keys = {"importance_sampling_correction": False, "loss_type": "dapo"}
    gradients = []
    for coefficient in (0.0, 0.5):
        recipe = make_recipe(algorithm={**keys, "entropy_coef": coefficient}, learner={"max_grad_norm": 1e9})
        gradients.append(gradients_of_step(load_policy(dense_folder), samples, recipe))
    plain = load_plain(dense_folder)
    total = sum(int(sample.loss_mask_L.sum()) for sample in samples)
    for sample in samples:
        logits = plain(input_ids=torch.from_numpy(sample.token_ids_L)[None], use_cache=False).logits[0]
        distribution = logits.log_softmax(-1)
        entropy = -(distribution.exp() * distribution).sum(-1)[:-1]
        (-0.5 * entropy[torch.from_numpy(sample.loss_mask_L[1:])].sum() / total).backward()
    for name, parameter in plain.named_parameters():
        bonus = gradients[1][name] - gradients[0][name]
        torch.testing.assert_close(bonus, parameter.grad, rtol=1e-3, atol=1e-6, msg=name)


def gradients_of_step(policy: Policy, samples, recipe) -> dict[str, torch.Tensor]:
    learner = Learner(policy, recipe)
    found: dict[str, torch.Tensor] = {}
    step = learner.optimizer.step

    def record_and_step() -> float:
        found.update({name: p.grad.clone() for name, p in policy.model.named_parameters()})
        return step()

    learner.optimizer.step = record_and_step
    learner.step(samples)
    return found


def test_only_the_tokens_of_highest_entropy_are_learned_from(dense_folder):
    """The rest may have any advantage: it changes nothing."""
    samples = make_ragged_samples(8, 5, old=False)
    plain = load_plain(dense_folder)
    entropies = np.concatenate([plain_logprobs(plain, sample)[1] for sample in samples])
    threshold = np.quantile(entropies, 0.8)
    recipe = make_recipe(
        algorithm={"top_entropy_quantile": 0.2, "importance_sampling_correction": False},
        learner={"max_grad_norm": 1e9},
    )
    found = gradients_of_step(load_policy(dense_folder), samples, recipe)
    total = len(entropies)
    for sample in samples:
        logits = plain(input_ids=torch.from_numpy(sample.token_ids_L)[None], use_cache=False).logits[0]
        ids = torch.from_numpy(sample.token_ids_L)
        logprobs = logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
        kept = torch.from_numpy(plain_logprobs(plain, sample)[1] >= threshold)
        counted = logprobs[torch.from_numpy(sample.loss_mask_L[1:])][kept]
        (-sample.advantage * counted.sum() / total).backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_a_kl_in_the_reward_is_not_in_the_loss_as_well(dense_folder):
    samples = make_ragged_samples(5, 6)
    gradients = []
    for beta in (0.0, 0.5):
        learner = Learner(load_policy(dense_folder), make_recipe(algorithm={"beta": beta, "kl_in": "reward"}))
        if learner.reference is not None:
            with torch.no_grad():
                for parameter in learner.reference.model.parameters():
                    parameter.mul_(1.1)
        gradients.append(learner.step(samples).grad_norm)
    assert gradients[0] == gradients[1]
