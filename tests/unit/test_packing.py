"""Rows without padding, and the weight of every token."""

import numpy as np
import pytest

from grpo.packing import first_fit_decreasing, pack, token_weights
from tests.factories import make_ragged_samples, make_sample

LOSS_TYPES = ["grpo", "dapo", "dr_grpo"]


def samples_of(*num_tokens: int, masked: tuple[int, ...] = ()):
    rng = np.random.default_rng(0)
    return [make_sample(rng, num_tokens=n, masked=i in masked, index=i) for i, n in enumerate(num_tokens)]


@pytest.mark.parametrize(
    ("loss_type", "weight_of_each_token"),
    [
        ("dapo", [1 / 9, 1 / 9, 1 / 9]),
        ("grpo", [1 / (3 * 2), 1 / (3 * 3), 1 / (3 * 4)]),
        ("dr_grpo", [1 / (3 * 12), 1 / (3 * 12), 1 / (3 * 12)]),
    ],
)
def test_weights_of_answers_of_two_three_and_four_tokens(loss_type, weight_of_each_token):
    samples = samples_of(2, 3, 4)
    weights = token_weights(samples, loss_type, max_completion_length=12)
    for sample, weights_L, expected in zip(samples, weights, weight_of_each_token, strict=True):  # noqa: N806
        np.testing.assert_allclose(weights_L, np.where(sample.loss_mask_L, expected, 0), rtol=1e-15)


@pytest.mark.parametrize(
    ("loss_type", "weight_of_each_token"),
    [("dapo", [0, 1 / 7, 1 / 7]), ("grpo", [0, 1 / 9, 1 / 12]), ("dr_grpo", [0, 1 / 36, 1 / 36])],
)
def test_a_masked_answer_has_no_weight_and_still_counts_as_an_answer(loss_type, weight_of_each_token):
    weights = token_weights(samples_of(2, 3, 4, masked=(0,)), loss_type, max_completion_length=12)
    np.testing.assert_allclose([weights_L.max() for weights_L in weights], weight_of_each_token, rtol=1e-15)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_batch_of_masked_answers_weighs_nothing(loss_type):
    weights = token_weights(samples_of(2, 3, masked=(0, 1)), loss_type, max_completion_length=12)
    assert all((weights_L == 0).all() for weights_L in weights)


def test_total_weight_is_one_where_the_loss_is_a_mean():
    samples = [sample for sample in make_ragged_samples(3, 12) if sample.loss_mask_L.any()]
    for loss_type in ("grpo", "dapo"):
        assert sum(w.sum() for w in token_weights(samples, loss_type, max_completion_length=12)) == pytest.approx(1)


def test_with_equal_lengths_all_aggregations_agree_up_to_a_constant():
    samples = samples_of(5, 5, 5)
    grpo, dapo, dr_grpo = (np.concatenate(token_weights(samples, t, max_completion_length=20)) for t in LOSS_TYPES)
    np.testing.assert_allclose(grpo, dapo, rtol=1e-15)
    np.testing.assert_allclose(dr_grpo, grpo * 5 / 20, rtol=1e-15)


def test_dr_grpo_with_full_length_answers_is_dapo():
    samples = samples_of(12, 12)
    dapo, dr_grpo = (np.concatenate(token_weights(samples, t, max_completion_length=12)) for t in ("dapo", "dr_grpo"))
    np.testing.assert_allclose(dr_grpo, dapo, rtol=1e-15)


@pytest.mark.parametrize(
    ("lengths", "capacity", "bins"),
    [
        ([], 4, []),
        ([3, 5, 2, 4], 7, [[1, 2], [3, 0]]),
        ([4, 4, 4], 4, [[0], [1], [2]]),
        ([9, 1, 1], 4, [[0], [1, 2]]),  # longer than a row: a row of its own
        ([2, 2, 2], 100, [[0, 1, 2]]),
    ],
)
def test_first_fit_decreasing(lengths, capacity, bins):
    assert first_fit_decreasing(lengths, capacity) == bins


@pytest.mark.parametrize("row_tokens", [1, 13, 40, 10_000])
def test_every_sample_lies_whole_in_exactly_one_row(row_tokens):
    samples = make_ragged_samples(1, 17)
    batch = pack(samples, "grpo", max_completion_length=12, row_tokens=row_tokens)
    weights = token_weights(samples, "grpo", max_completion_length=12)
    seen = []
    for row in batch.rows:
        assert len(row.token_ids_T) == row.boundaries[-1]
        assert len(row.members) == 1 or row.boundaries[-1] <= row_tokens
        for at, member in enumerate(row.members):
            span = slice(row.boundaries[at], row.boundaries[at + 1])
            sample = samples[member]
            np.testing.assert_array_equal(row.token_ids_T[span], sample.token_ids_L)
            np.testing.assert_array_equal(row.position_ids_T[span], np.arange(len(sample.token_ids_L)))
            np.testing.assert_array_equal(row.loss_mask_T[span], sample.loss_mask_L)
            np.testing.assert_array_equal(row.behavior_logprobs_T[span], sample.behavior_logprobs_L)
            np.testing.assert_array_equal(row.old_logprobs_T[span], sample.old_logprobs_L)
            np.testing.assert_array_equal(row.advantages_T[span], sample.advantage)
            np.testing.assert_array_equal(row.weights_T[span], weights[member])
            seen.append(member)
    assert sorted(seen) == list(range(len(samples)))


def test_old_logprobs_are_absent_where_no_sample_has_them():
    batch = pack(make_ragged_samples(0, 3, old=False), "dapo", max_completion_length=12, row_tokens=64)
    assert [row.old_logprobs_T for row in batch.rows] == [None]


def test_rows_waste_little():
    samples = make_ragged_samples(7, 100)
    batch = pack(samples, "dapo", max_completion_length=12, row_tokens=64)
    total = sum(len(sample.token_ids_L) for sample in samples)
    assert total / (64 * len(batch.rows)) > 0.95


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        pack([], "dapo", max_completion_length=12, row_tokens=64)
