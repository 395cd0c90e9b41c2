"""The learner on tiny real models: what it scores, how it updates, what it hands on."""

import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

import grpo.learner.policy as policy_module
from grpo.datatypes import Row, Sample
from grpo.errors import ModelError, NonFiniteError
from grpo.learner import Learner, Policy
from grpo.learner.attention import packed_rows
from grpo.packing import pack
from tests.factories import make_ragged_samples, make_recipe, make_sample
from tests.models import SHAPE, VOCABULARY

FP32 = {"rtol": 0, "atol": 2e-6}


def load_policy(folder: Path, *, dtype: torch.dtype = torch.float32, gradient_checkpointing: bool = False) -> Policy:
    return Policy.load(str(folder), dtype=dtype, device="cpu", gradient_checkpointing=gradient_checkpointing)


def load_plain(folder: Path, attention: str = "eager") -> PreTrainedModel:
    """The same weights without any code of ours."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()


@torch.no_grad()
def plain_logprobs(model: PreTrainedModel, sample: Sample, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and entropy of each loss token, the sample alone in the batch."""
    ids = torch.from_numpy(sample.token_ids_L)
    distribution = (model(input_ids=ids[None], use_cache=False).logits[0].double() / temperature).log_softmax(-1)
    logprobs = distribution[:-1].gather(1, ids[1:, None])[:, 0].numpy()
    entropy = -(distribution.exp() * distribution).sum(-1)[:-1].numpy()
    counted = sample.loss_mask_L[1:]
    return logprobs[counted], entropy[counted]


def one_row(samples: list[Sample]) -> Row:
    (row,) = pack(samples, "dapo", max_completion_length=12, row_tokens=10**6).rows
    return row


def weights_of(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def assert_equal_weights(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def row_gradients(
    policy: Policy, row: Row, run_backward: Callable[[torch.Tensor], None] = torch.Tensor.backward
) -> dict[str, torch.Tensor]:
    """Of a weighted sum of the row's log-probabilities."""
    policy.model.zero_grad()
    with packed_rows(row.boundaries):
        logprobs, _ = policy.token_logprobs(row, temperature=1.0)
        run_backward((logprobs * torch.linspace(-1, 1, len(logprobs))).sum())
    return {name: p.grad.clone() for name, p in policy.model.named_parameters()}


def assert_close_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert largest > 0
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).abs().max()) <= 1e-5 * largest, name


# --- scoring


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_packed_rows_score_as_each_sample_alone(model_folder, temperature):
    samples = make_ragged_samples(0, 7)
    row, policy = one_row(samples), load_policy(model_folder)
    with packed_rows(row.boundaries), torch.no_grad():
        logprobs, entropy = policy.token_logprobs(row, temperature=temperature)
    plain = load_plain(model_folder)
    alone = [plain_logprobs(plain, samples[member], temperature) for member in row.members]
    np.testing.assert_allclose(logprobs.numpy(), np.concatenate([part[0] for part in alone]), **FP32)
    np.testing.assert_allclose(entropy.numpy(), np.concatenate([part[1] for part in alone]), **FP32)


def test_the_gradient_of_a_packed_row_is_that_of_each_sample_alone(model_folder):
    samples = make_ragged_samples(2, 5)
    row = one_row(samples)
    packed = row_gradients(load_policy(model_folder), row)
    plain = load_plain(model_folder)
    parts = []
    for member in row.members:
        ids = torch.from_numpy(samples[member].token_ids_L)
        distribution = plain(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
        parts.append(
            distribution[:-1].gather(1, ids[1:, None])[:, 0][torch.from_numpy(samples[member].loss_mask_L[1:])]
        )
    logprobs = torch.cat(parts)
    (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
    assert_close_gradients(packed, {name: p.grad for name, p in plain.named_parameters()})


def test_score_is_that_of_the_plain_model(model_folder):
    sample = make_sample(np.random.default_rng(0), prompt_length=1, num_tokens=20)
    found = load_policy(model_folder).score(sample.token_ids_L.tolist())
    np.testing.assert_allclose(found, plain_logprobs(load_plain(model_folder), sample)[0], **FP32)


def test_a_head_in_chunks_gives_the_same_scores_and_gradients(model_folder, monkeypatch):
    row = one_row(make_ragged_samples(1, 6))
    policy = load_policy(model_folder)
    whole = row_gradients(policy, row)
    with packed_rows(row.boundaries), torch.no_grad():
        logprobs, entropy = policy.token_logprobs(row, temperature=1.0)
    monkeypatch.setattr(policy_module, "LOGITS_AT_ONCE", 3 * VOCABULARY)
    assert_close_gradients(row_gradients(policy, row), whole)
    with packed_rows(row.boundaries), torch.no_grad():
        chunked_logprobs, chunked_entropy = policy.token_logprobs(row, temperature=1.0)
    np.testing.assert_allclose(chunked_logprobs.numpy(), logprobs.numpy(), **FP32)
    np.testing.assert_allclose(chunked_entropy.numpy(), entropy.numpy(), **FP32)


def test_outside_packed_rows_attention_is_transformers_own(model_folder):
    """Left-padded batches and a key-value cache, as generation uses them."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(2, VOCABULARY, (3, 10)))
    mask = (torch.arange(10) >= torch.tensor([[0], [3], [6]])).long()
    ours, theirs = load_policy(model_folder).model, load_plain(model_folder, "sdpa")
    with torch.no_grad():
        found, expected = (model(input_ids=ids, attention_mask=mask).logits for model in (ours, theirs))
    assert torch.equal(found, expected)
    generated = [
        model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False) for model in (ours, theirs)
    ]
    assert torch.equal(*generated)


@pytest.mark.parametrize("thread", ["caller", "own"])
def test_gradient_checkpointing_gives_the_same_gradients(model_folder, thread):
    """On a GPU autograd recomputes in a thread of its own, which must still see the row's boundaries."""
    row = one_row(make_ragged_samples(3, 5))
    policy = load_policy(model_folder, gradient_checkpointing=True)
    assert policy.model.is_gradient_checkpointing
    assert policy.model.training  # transformers recomputes only then
    run = backward_in_a_thread if thread == "own" else torch.Tensor.backward
    assert_close_gradients(row_gradients(policy, row, run), row_gradients(load_policy(model_folder), row))


def backward_in_a_thread(loss: torch.Tensor) -> None:
    worker = threading.Thread(target=loss.backward)
    worker.start()
    worker.join()


# --- models that do not fit


def test_a_model_that_changes_its_logits_after_the_head_is_refused():
    torch.manual_seed(0)
    shape = {name: value for name, value in SHAPE.items() if name != "head_dim"}
    model = GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=4.0)).eval()
    with pytest.raises(ModelError, match="changes its logits after the output embedding"):
        Policy(model)


def test_a_sample_longer_than_the_attention_window_is_refused(tmp_path):
    torch.manual_seed(0)
    MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)).save_pretrained(tmp_path)
    policy = load_policy(tmp_path)
    rng = np.random.default_rng(0)
    assert policy.score(rng.integers(2, VOCABULARY, 8).tolist()).shape == (7,)
    with pytest.raises(ModelError, match="window of 8 tokens, but a sample has 9"):
        policy.score(rng.integers(2, VOCABULARY, 9).tolist())


def test_a_path_that_is_no_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_policy(tmp_path)


# --- old log-probabilities and the three policies


def test_with_old_logprobs_adds_the_policys_own_and_changes_nothing_else(model_folder):
    samples = make_ragged_samples(4, 9, old=False)
    learner = Learner(load_policy(model_folder), make_recipe(learner={"row_tokens": 30}))
    plain = load_plain(model_folder)
    done = learner.with_old_logprobs(samples)
    for sample, found in zip(samples, done, strict=True):
        assert sample.old_logprobs_L is None
        for name in (field.name for field in fields(Sample) if field.name != "old_logprobs_L"):
            np.testing.assert_array_equal(getattr(found, name), getattr(sample, name))
        np.testing.assert_allclose(found.old_logprobs_L[sample.loss_mask_L], plain_logprobs(plain, sample)[0], **FP32)
        assert (found.old_logprobs_L[~sample.loss_mask_L] == 0).all()
    assert learner.with_old_logprobs([]) == []


def test_absent_old_logprobs_mean_the_policy_now(model_folder):
    samples = make_ragged_samples(5, 6, old=False)
    stats, weights = [], []
    for recompute in (False, True):
        learner = Learner(load_policy(model_folder), make_recipe())
        stats.append(learner.step(learner.with_old_logprobs(samples) if recompute else samples))
        weights.append(weights_of(learner.policy))
    assert stats[0].loss == pytest.approx(stats[1].loss, abs=1e-6)
    assert stats[0].grad_norm == pytest.approx(stats[1].grad_norm, rel=1e-5)
    assert (stats[0].clipped_low, stats[0].clipped_high) == (0, 0)
    np.testing.assert_allclose(stats[0].difference_N, stats[1].difference_N, atol=1e-6)
    np.testing.assert_allclose(stats[0].log_ratio_N, stats[1].log_ratio_N, atol=1e-6)


def test_old_behavior_bypasses_the_correction(dense_folder):
    samples = make_ragged_samples(5, 6, old=False)
    learner = Learner(load_policy(dense_folder), make_recipe(algorithm={"old": "behavior"}))
    stats = learner.step(samples)
    assert stats.dropped == 0
    np.testing.assert_array_equal(stats.difference_N, stats.log_ratio_N)  # the ratio spans engine and learner
    assert np.abs(stats.difference_N).max() > 0.1
    assert stats.clipped_low + stats.clipped_high > 0.3  # random behavior log-probabilities lie far from the policy


def test_statistics_are_of_loss_tokens(dense_folder):
    samples = make_ragged_samples(6, 8)
    num_loss_tokens = sum(int(sample.loss_mask_L.sum()) for sample in samples)
    recipe = make_recipe(algorithm={"num_minibatches": 2}, learner={"row_tokens": 20, "learning_rate": 1e-9})
    stats = Learner(load_policy(dense_folder), recipe).step(samples)
    plain = load_plain(dense_folder)
    differences = np.concatenate([(s.old_logprobs_L - s.behavior_logprobs_L)[s.loss_mask_L] for s in samples])
    assert stats.num_tokens == sum(len(sample.token_ids_L) for sample in samples)
    assert len(stats.difference_N) == len(stats.log_ratio_N) == num_loss_tokens
    np.testing.assert_allclose(np.sort(stats.difference_N), np.sort(differences), atol=1e-6)
    assert stats.entropy == pytest.approx(
        np.concatenate([plain_logprobs(plain, s)[1] for s in samples]).mean(), abs=1e-5
    )
    assert stats.num_updates == 2


# --- updates


def test_an_update_makes_good_answers_likelier_and_bad_ones_less(model_folder):
    rng = np.random.default_rng(0)
    samples = [make_sample(rng, advantage=a, old=False, index=i) for i, a in enumerate([1.0, -1.0])]
    learner = Learner(load_policy(model_folder), make_recipe(algorithm={"importance_sampling_correction": False}))
    before = [learner.policy.score(sample.token_ids_L.tolist())[2:].sum() for sample in samples]
    learner.step(samples)
    after = [learner.policy.score(sample.token_ids_L.tolist())[2:].sum() for sample in samples]
    assert after[0] > before[0] + 0.01
    assert after[1] < before[1] - 0.01


def test_an_update_is_adamw_on_the_clipped_gradient(dense_folder):
    """Against torch's own parts on a model without any code of ours."""
    samples = make_ragged_samples(8, 5, old=False)
    settings = {"learning_rate": 3e-3, "weight_decay": 0.1, "max_grad_norm": 0.5, "adam_beta2": 0.95}
    learner = Learner(
        load_policy(dense_folder),
        make_recipe(algorithm={"importance_sampling_correction": False}, learner=settings),
    )
    stats = learner.step(samples)
    plain = load_plain(dense_folder)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=3e-3, weight_decay=0.1, betas=(0.9, 0.95), fused=False)
    num_loss_tokens = sum(int(sample.loss_mask_L.sum()) for sample in samples)
    for sample in samples:
        ids = torch.from_numpy(sample.token_ids_L)
        logprobs = plain(input_ids=ids[None]).logits[0].log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
        (-sample.advantage * logprobs[torch.from_numpy(sample.loss_mask_L[1:])].sum() / num_loss_tokens).backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    assert norm > 0.5
    optimizer.step()
    assert stats.grad_norm == pytest.approx(float(norm), rel=1e-5)
    for name, parameter in plain.named_parameters():
        # Adam's first step is the gradient's sign: where a gradient is mere rounding the two may differ
        close = torch.isclose(learner.policy.model.get_parameter(name), parameter, rtol=0, atol=1e-6)
        assert close.float().mean() > 0.99, name


def test_minibatches_are_updates_in_the_order_given(dense_folder):
    samples = make_ragged_samples(7, 6)
    together = Learner(load_policy(dense_folder), make_recipe(algorithm={"num_minibatches": 3}))
    stats = together.step(samples)
    apart = Learner(load_policy(dense_folder), make_recipe())
    parts = [apart.step(samples[at : at + 2]) for at in (0, 2, 4)]
    assert_equal_weights(weights_of(together.policy), weights_of(apart.policy))
    assert stats.num_updates == together.optimizer.num_updates == 3
    assert stats.loss == pytest.approx(np.mean([part.loss for part in parts]))
    assert stats.grad_norm == pytest.approx(np.mean([part.grad_norm for part in parts]))


def test_more_minibatches_than_samples_are_one_each(dense_folder):
    learner = Learner(load_policy(dense_folder), make_recipe(algorithm={"num_minibatches": 8}))
    assert learner.step(make_ragged_samples(7, 3)).num_updates == 3


def test_a_step_of_masked_answers_alone_has_no_gradient(model_folder):
    rng = np.random.default_rng(0)
    learner = Learner(load_policy(model_folder), make_recipe())
    before = weights_of(learner.policy)
    stats = learner.step([make_sample(rng, masked=True, index=index) for index in range(3)])
    assert (stats.loss, stats.grad_norm, len(stats.difference_N)) == (0, 0, 0)
    assert_equal_weights(weights_of(learner.policy), before)


@pytest.mark.parametrize(("advantage", "named"), [(float("nan"), "loss is nan"), (1e38, "gradient norm is inf")])
def test_a_loss_or_gradient_that_is_no_number_stops_before_any_weight_moves(model_folder, advantage, named):
    learner = Learner(load_policy(model_folder), make_recipe(algorithm={"importance_sampling_correction": False}))
    before, rng = weights_of(learner.policy), np.random.default_rng(0)
    with pytest.raises(NonFiniteError, match=named):
        learner.step([make_sample(rng, advantage=advantage, old=False)])
    assert_equal_weights(weights_of(learner.policy), before)
    assert learner.optimizer.num_updates == 0


# --- the reference


def test_kl_is_zero_at_the_start_grows_and_is_zero_again_after_a_refresh(model_folder):
    samples = make_ragged_samples(9, 6, old=False)
    learner = Learner(load_policy(model_folder), make_recipe(algorithm={"beta": 0.1}, learner={"learning_rate": 1e-2}))
    assert learner.step(samples).kl == 0
    moved = learner.step(samples).kl
    assert moved > 1e-4
    learner.refresh_reference()
    assert learner.step(samples).kl == 0


def test_without_beta_there_is_no_reference(dense_folder):
    learner = Learner(load_policy(dense_folder), make_recipe())
    assert learner.reference is None
    assert learner.step(make_ragged_samples(0, 3)).kl is None


def test_the_reference_learns_nothing(dense_folder):
    learner = Learner(load_policy(dense_folder), make_recipe(algorithm={"beta": 0.1}))
    before = weights_of(learner.reference)
    learner.step(make_ragged_samples(9, 6))
    assert_equal_weights(weights_of(learner.reference), before)
    assert all(parameter.grad is None for parameter in learner.reference.model.parameters())


# --- what it hands on


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_named_tensors_are_those_of_the_checkpoint_and_the_tied_head(model_folder, dtype, tmp_path):
    policy = load_policy(model_folder, dtype=dtype)
    policy.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    if "lm_head.weight" not in saved:
        saved["lm_head.weight"] = saved["model.embed_tokens.weight"]
    names = [name for name, _ in policy.named_tensors()]
    assert len(names) == len(set(names))
    assert set(names) == saved.keys()
    for name, tensor in policy.named_tensors():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, saved[name]), name


def test_experts_are_named_one_by_one(moe_folder):
    names = {name for name, _ in load_policy(moe_folder).named_tensors()}
    experts = {name for name in names if ".experts." in name}
    assert len(experts) == 2 * 4 * 3  # layers, experts, projections
    assert "model.layers.1.mlp.experts.3.down_proj.weight" in experts


def test_a_saved_policy_loads_and_scores_the_same(model_folder, tmp_path):
    learner = Learner(load_policy(model_folder), make_recipe())
    learner.step(make_ragged_samples(0, 4))
    learner.policy.save(tmp_path)
    token_ids = list(range(2, 30))
    np.testing.assert_array_equal(load_policy(tmp_path).score(token_ids), learner.policy.score(token_ids))
