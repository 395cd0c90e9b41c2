"""The scale of the loss: denominators taken from whatever happens to be computed together.

The guards are two invariants that other tests hold the code to: no split into rows changes loss or gradient
(``tests/property``), and both are those of an independent reference (``tests/unit/test_objective.py``). Here each is
shown to fail on the code with the bug in it.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

import tests.property.test_split_invariance as split
import tests.unit.test_objective as reference
from grpo import packing
from grpo.datatypes import Batch, Row
from grpo.learner import Policy
from grpo.packing import pack
from grpo.recipe import Algorithm
from tests.factories import make_sample
from tests.unit.ragged_answers import make_answers

Reweighted = Callable[[Row, int], np.ndarray]


def check_split(loss_type: str) -> None:
    """The property test's own check, of one example."""
    check = split.test_in_float64_no_split_and_no_order_changes_loss_or_gradient.hypothesis.inner_test
    objective = Algorithm(loss_type=loss_type, beta=0.04)
    check(seed=3, count=9, objective=objective, row_tokens=40, order=random.Random(0))


def check_split_of_the_learner(policy: Policy, loss_type: str) -> None:
    check = split.test_through_the_learner_no_split_and_no_order_changes_loss_or_gradient.hypothesis.inner_test
    check(policy, seed=3, count=6, objective={"loss_type": loss_type}, row_tokens=40, order=random.Random(0))


def inject(monkeypatch: pytest.MonkeyPatch, weights: Reweighted) -> None:
    """Have every batch weigh its tokens anew, given a row and how many rows there are."""

    def batch_of(rows: Iterable[Row]) -> Batch:
        rows = tuple(rows)
        return Batch(rows=tuple(replace(row, weights_T=weights(row, len(rows))) for row in rows))

    monkeypatch.setattr(packing, "Batch", batch_of)


def mean_of_row_means(row: Row, num_rows: int) -> np.ndarray:
    return row.loss_mask_T / max(1, row.loss_mask_T.sum()) / num_rows


def mean_over_answers_of_the_row(row: Row, num_rows: int) -> np.ndarray:
    ends = zip(row.boundaries, row.boundaries[1:], strict=False)
    masks = [row.loss_mask_T[start:end] for start, end in ends]
    return np.concatenate([mask / max(1, mask.sum()) / len(masks) for mask in masks]) / num_rows


def divided_once_more(row: Row, num_rows: int) -> np.ndarray:
    return row.weights_T / num_rows


def test_a_mean_in_each_micro_batch_makes_accumulation_another_objective(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_split_of_the_learner(policy, "dapo")
    inject(monkeypatch, mean_of_row_means)
    with pytest.raises(AssertionError):
        check_split_of_the_learner(policy, "dapo")
    with pytest.raises(AssertionError):
        check_split("dapo")


def test_a_mean_of_means_gives_short_windows_too_much_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread's own numbers: 100 tokens of loss 2.0 and 900 of 0.5 come to 0.65, and not to 1.25."""
    rng = np.random.default_rng(0)
    short, long = (make_sample(rng, num_tokens=n, index=i) for i, n in enumerate((100, 900)))

    def loss(row_tokens: int) -> float:
        rows = pack([short, long], "dapo", max_completion_length=900, row_tokens=row_tokens).rows
        terms = [np.where(np.repeat(row.members, np.diff(row.boundaries)) == 0, 2.0, 0.5) for row in rows]
        return float(sum((row.weights_T * term_T).sum() for row, term_T in zip(rows, terms, strict=True)))

    assert [loss(910), loss(10_000)] == pytest.approx([0.65, 0.65])
    inject(monkeypatch, mean_of_row_means)
    assert [loss(910), loss(10_000)] == pytest.approx([1.25, 0.65])
    with pytest.raises(AssertionError):
        check_split("dapo")


def test_a_mean_over_the_answers_of_a_minibatch_depends_on_who_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_split("grpo")
    inject(monkeypatch, mean_over_answers_of_the_row)
    with pytest.raises(AssertionError):
        check_split("grpo")


def test_a_denominator_in_answers_where_tokens_were_meant_is_not_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = make_answers()
    custom = {"policy_loss": "cispo", "loss_type": "dapo", "importance_sampling_correction": False}
    reference.check(answers, custom)
    monkeypatch.setitem(packing.AGGREGATIONS, "dapo", lambda counts: [1 / len(counts.lengths)] * len(counts.lengths))
    with pytest.raises(AssertionError):
        reference.check(answers, custom)


def test_a_loss_divided_once_more_by_the_number_of_micro_batches_shrinks_with_it(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, divided_once_more)
    with pytest.raises(AssertionError):
        check_split("dapo")
    with pytest.raises(AssertionError):
        check_split_of_the_learner(policy, "dapo")
