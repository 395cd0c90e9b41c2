"""Admission, order and the one end of every group: hand-written histories (random ones: test_buffer_machine)."""

import pytest

from grpo.buffer import Buffer
from tests.factories import make_group, make_ready


def make_buffer(
    *, groups_per_step: int = 2, max_staleness: int = 0, max_refill_groups: int = 0, max_steps: int = 10
) -> Buffer:
    return Buffer(
        groups_per_step=groups_per_step,
        max_staleness=max_staleness,
        max_refill_groups=max_refill_groups,
        max_steps=max_steps,
    )


def start_all(buffer: Buffer) -> list[int]:
    return [buffer.start() for _ in range(buffer.admissible())]


def finish(buffer: Buffer, *ordinals: int) -> None:
    for ordinal in ordinals:
        buffer.finish(make_ready(ordinal))


def reject(buffer: Buffer, *ordinals: int) -> None:
    for ordinal in ordinals:
        buffer.reject(make_group([1.0, 1.0], ordinal), "zero_variance")


def take(buffer: Buffer) -> list[int] | None:
    taken = buffer.take()
    return None if taken is None else [group.ordinal for group in taken]


def test_without_staleness_a_step_is_a_round():
    buffer = make_buffer()
    assert start_all(buffer) == [0, 1]
    finish(buffer, 1)
    assert take(buffer) is None
    finish(buffer, 0)
    assert buffer.admissible() == 0
    assert take(buffer) == [0, 1]
    assert start_all(buffer) == [2, 3]


def test_with_staleness_the_next_steps_groups_are_already_there():
    buffer = make_buffer(max_staleness=1)
    assert start_all(buffer) == [0, 1, 2, 3]
    finish(buffer, 0, 1)
    assert buffer.admissible() == 0
    assert take(buffer) == [0, 1]
    assert start_all(buffer) == [4, 5]


def test_a_group_that_is_due_is_waited_for():
    buffer = make_buffer(max_staleness=1)
    start_all(buffer)
    finish(buffer, 1, 2, 3)
    assert take(buffer) is None
    finish(buffer, 0)
    assert [take(buffer), take(buffer)] == [[0, 1], [2, 3]]


def test_a_group_in_flight_beyond_what_is_due_is_not_waited_for():
    buffer = make_buffer(max_staleness=1)
    start_all(buffer)
    finish(buffer, 0, 2)
    reject(buffer, 1)
    assert take(buffer) == [0, 2]


def test_rejected_groups_are_replaced_by_exactly_the_shortfall():
    buffer = make_buffer(groups_per_step=4, max_refill_groups=8)
    start_all(buffer)
    finish(buffer, 0)
    reject(buffer, 1, 2, 3)
    assert take(buffer) is None
    assert start_all(buffer) == [4, 5, 6]
    finish(buffer, 4, 6)
    reject(buffer, 5)
    assert start_all(buffer) == [7]
    finish(buffer, 7)
    assert take(buffer) == [0, 4, 6, 7]


def test_at_the_cap_a_step_goes_on_with_what_there_is():
    buffer = make_buffer(groups_per_step=3, max_refill_groups=1)
    start_all(buffer)
    finish(buffer, 0)
    reject(buffer, 1, 2)
    assert not buffer.refill_cap_reached
    assert start_all(buffer) == [3]
    reject(buffer, 3)
    assert buffer.refill_cap_reached
    assert buffer.admissible() == 0
    assert take(buffer) == [0]
    assert not buffer.refill_cap_reached
    assert start_all(buffer) == [4, 5, 6]


def test_the_cap_is_per_step():
    buffer = make_buffer(groups_per_step=1, max_refill_groups=1)
    for first in (0, 2, 4):
        assert start_all(buffer) == [first]
        reject(buffer, first)
        assert start_all(buffer) == [first + 1]
        finish(buffer, first + 1)
        assert take(buffer) == [first + 1]


def test_a_step_may_be_empty_handed_at_the_cap():
    buffer = make_buffer()
    start_all(buffer)
    reject(buffer, 0, 1)
    assert take(buffer) == []
    assert buffer.step == 1
    assert start_all(buffer) == [2, 3]


def test_nothing_is_admitted_for_steps_that_will_not_happen():
    buffer = make_buffer(max_staleness=1, max_steps=2)
    assert start_all(buffer) == [0, 1, 2, 3]
    finish(buffer, 0, 1, 2, 3)
    assert take(buffer) == [0, 1]
    assert buffer.admissible() == 0
    assert take(buffer) == [2, 3]
    assert (buffer.admissible(), buffer.in_flight, buffer.ready) == (0, set(), {})


def test_starting_beyond_what_is_admitted_is_an_error_of_the_caller():
    buffer = make_buffer()
    start_all(buffer)
    with pytest.raises(AssertionError, match="admission does not allow"):
        buffer.start()


def test_the_ledger_names_each_end_and_its_step():
    buffer = make_buffer(max_refill_groups=1)
    start_all(buffer)
    finish(buffer, 1)
    buffer.reject(make_group([None, 1.0], 0), "unscored")
    start_all(buffer)
    finish(buffer, 2)
    buffer.take()
    entries = buffer.drain_ledger()
    assert [(entry.group_id, entry.ordinal, entry.end, entry.reason, entry.step) for entry in entries] == [
        ("p/0#0", 0, "rejected", "unscored", 1),
        ("p/1#0", 1, "trained", None, 1),
        ("p/2#0", 2, "trained", None, 1),
    ]
    assert buffer.drain_ledger() == []
