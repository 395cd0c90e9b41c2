"""The publish proof's decisions. That real broken publishes trip it is shown in tests/e2e/test_publish.py."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from grpo.errors import PublishError
from grpo.weights import BF16_CEILING, BF16_FLOOR, FP32_TOLERANCE, Publisher, Receipt, Tensors, fingerprint

PROBES = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
FIRSTS_TURN = 3  # the version at which the first of them is scored


class Side:
    """A learner and an engine in one: scores are -1 nat a token, but for what ``errors`` adds to a probe."""

    def __init__(self, errors: dict[int, float] | None = None, size: float = 1.0, margin: float = 1e-7) -> None:
        self.version, self.errors, self.size, self.margin = 0, errors or {}, size, margin

    def router_margin(self, token_ids: Sequence[int]) -> float:
        return self.margin

    def named_tensors(self) -> Tensors:
        yield "weight", torch.ones(3)

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        scores = np.full(len(token_ids) - 1, -self.size, np.float32)
        scores[0] += self.errors.get(token_ids[0], 0.0)
        return scores

    def load(self, tensors: Tensors, version: int) -> Receipt:
        self.version = version
        return Receipt(version=version, hashes={name: fingerprint(tensor) for name, tensor in tensors})


def test_a_difference_on_one_text_at_a_near_tie_of_experts_passes_and_is_counted() -> None:
    publisher = Publisher(Side(), Side({1: 0.3}), PROBES, exact=True)
    publication = publisher.publish(FIRSTS_TURN)
    assert publication.probe_difference <= FP32_TOLERANCE
    assert publication.near_tie
    assert not Publisher(Side(), Side(), PROBES, exact=True).publish(FIRSTS_TURN).near_tie


def test_in_bf16_one_text_that_differs_is_judged_by_the_mean_over_all() -> None:
    """0.27 nats on one of two tokens is 0.135 of that text and 0.045 of the three; 0.05 is allowed."""
    publication = Publisher(Side(), Rounded({1: 0.27}), PROBES, exact=False).publish(FIRSTS_TURN)
    assert publication.near_tie
    assert publication.probe_difference == pytest.approx(0.045)
    with pytest.raises(PublishError, match="probe texts score"):
        Publisher(Side(), Rounded({1: 0.3, 7: 0.1}), PROBES, exact=False).publish(FIRSTS_TURN)


def test_a_resumed_run_allows_what_the_run_allowed_from_its_start() -> None:
    """Measured anew, on weights that training has moved, the tolerance would be another."""
    begun = Publisher(Side(), Side({1: 0.04}), PROBES, exact=False)
    resumed = Publisher(Side(), Side({1: 0.08}), PROBES, exact=False)
    assert BF16_FLOOR < begun.tolerance < resumed.tolerance < BF16_CEILING
    resumed.restore(begun.state())
    assert resumed.tolerance == begun.tolerance
    in_fp32 = Publisher(Side(), Side(), PROBES, exact=True)
    in_fp32.restore(begun.state())
    assert in_fp32.tolerance == FP32_TOLERANCE


class Rounded(Side):
    """Without differences until weights are loaded."""

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return super().score(token_ids) if self.version else Side().score(token_ids)


def test_probes_take_turns() -> None:
    """An engine wrong on one text alone is found out when its turn has come."""
    publisher = Publisher(Side(margin=1.0), Side({4: 0.3}), PROBES, exact=True)
    for version in (2, 3):
        assert publisher.publish(version).num_tensors == 1
    with pytest.raises(PublishError, match="probe texts score 0.3"):
        publisher.publish(4)


class Replicas(Side):
    """Two engines in processes of their own; the second is wrong on the first text."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas = (Side(), Side({1: 0.3}, margin=1.0))

    def load(self, tensors: Tensors, version: int) -> Receipt:
        for replica in self.replicas:
            replica.version = version
        return super().load(tensors, version)


def test_the_learner_scores_once_for_all_replicas_and_each_is_compared() -> None:
    asked: list[Sequence[int]] = []

    class Learner(Side):
        def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
            asked.append(token_ids)
            return super().score(token_ids)

    publisher = Publisher(Learner(margin=1.0), Replicas(), PROBES, exact=True)
    assert publisher.publish(1).num_tensors == 1
    assert asked == [PROBES[1]]
    with pytest.raises(PublishError, match="probe texts score 0.3"):
        publisher.publish(FIRSTS_TURN)


@pytest.mark.parametrize("margin", [1e-4, float("inf")])
def test_a_difference_on_one_text_without_a_near_tie_stops_the_run(margin: float) -> None:
    with pytest.raises(PublishError, match="probe texts score 0.3"):
        Publisher(Side(margin=margin), Side({1: 0.3}), PROBES, exact=True).publish(FIRSTS_TURN)


@pytest.mark.parametrize("errors", [{1: 0.3, 4: 0.3}, {1: 0.3, 7: 2e-4}, {1: float("nan"), 4: float("nan")}])
def test_a_difference_on_a_second_text_stops_the_run(errors: dict[int, float]) -> None:
    with pytest.raises(PublishError, match=r"tensor weight; version sent 6, version held 6"):
        Publisher(Side(), Side(errors), PROBES, exact=True).publish(6)


def test_a_single_probe_has_no_second_opinion() -> None:
    with pytest.raises(PublishError, match="probe texts score"):
        Publisher(Side(), Side({1: 2e-4}), PROBES[:1], exact=True).publish(1)


def test_rounding_is_allowed_for_in_proportion_to_the_size_of_a_log_probability() -> None:
    assert Publisher(Side(size=20), Side({1: 1e-3}, size=20), PROBES[:1], exact=True).publish(1).num_tensors == 1
    with pytest.raises(PublishError):
        Publisher(Side(size=20), Side({1: 4e-3}, size=20), PROBES[:1], exact=True).publish(1)


@pytest.mark.parametrize(("at_start", "tolerance"), [(0.0, BF16_FLOOR), (0.06, 0.09), (9.0, BF16_CEILING)])
def test_the_bf16_tolerance_follows_from_the_start_within_bounds(at_start: float, tolerance: float) -> None:
    errors = {1: at_start}  # on one of two tokens, so the mean is half
    assert Publisher(Side(), Side(errors), PROBES, exact=False).tolerance == pytest.approx(tolerance, rel=1e-5)


def test_an_engine_that_is_wrong_from_the_start_cannot_set_its_own_tolerance() -> None:
    everywhere = {1: 9.0, 4: 9.0, 7: 9.0}
    with pytest.raises(PublishError, match="probe texts score"):
        Publisher(Side(), Side(everywhere), PROBES, exact=False).publish(0)


@pytest.mark.parametrize("held", [0, 2])
def test_an_engine_behind_or_ahead_of_what_was_sent_stops_the_run(held: int) -> None:
    class Elsewhere(Side):
        def load(self, tensors: Tensors, version: int) -> Receipt:
            receipt = super().load(tensors, version)
            self.version = held
            return receipt

    with pytest.raises(PublishError, match=f"version sent 1, version held {held}"):
        Publisher(Side(), Elsewhere(), PROBES, exact=True).publish(1)
