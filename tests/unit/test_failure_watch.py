"""When verifiers fail too often: told from bad luck, in one step or over several."""

import numpy as np
import pytest

from grpo.failure_watch import FailureWatch

NUM_STEPS = 500


def first_stop(share: float, num_answers: int, seed: int) -> int | None:
    rng = np.random.default_rng(seed)
    watch = FailureWatch()
    for step in range(NUM_STEPS):
        if watch.is_too_many(int(rng.binomial(num_answers, share)), num_answers):
            return step
    return None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_answers", [16, 128, 1024])
def test_three_percent_goes_on_and_a_fifth_stops_at_once(num_answers: int, seed: int) -> None:
    assert first_stop(0.03, num_answers, seed) is None
    stop = first_stop(0.2, num_answers, seed)
    assert stop is not None
    assert stop <= (15 if num_answers == 16 else 1)


def test_a_tenth_is_found_within_some_steps() -> None:
    stops = [first_stop(0.1, 128, seed) for seed in range(5)]
    assert all(stop is not None and stop < 10 for stop in stops)


def test_a_verifier_that_never_answers_stops_the_smallest_step() -> None:
    assert FailureWatch().is_too_many(4, 4)
    assert not FailureWatch().is_too_many(2, 4)  # once in seventy such steps at 5%


def test_no_failure_never_stops() -> None:
    watch = FailureWatch()
    assert not any(watch.is_too_many(0, 1) for _ in range(50))
    assert not watch.is_too_many(0, 0)


def test_a_watch_over_the_same_books_goes_on_where_the_other_stopped() -> None:
    """Failures of a tenth are found over some steps together, of which a resumed run has seen only the last."""
    steps: list[list[int]] = []
    whole = FailureWatch()
    for _ in range(4):
        assert not whole.is_too_many(12, 128)
        assert not FailureWatch(steps).is_too_many(12, 128)
    verdicts = [watch.is_too_many(12, 128) for watch in (whole, FailureWatch(steps), FailureWatch())]
    assert verdicts == [True, True, False]
