"""Any interleaving of starts, arrivals, rejections and takes keeps the buffer's promises."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grpo.buffer import Buffer, LedgerEntry
from tests.factories import make_group, make_ready


class BufferMachine(RuleBasedStateMachine):
    """Keeps its own books, and compares the buffer's with them."""

    @initialize(
        groups_per_step=st.integers(1, 4),
        max_staleness=st.integers(0, 3),
        max_refill_groups=st.integers(0, 4),
        max_steps=st.integers(1, 6),
    )
    def make(self, groups_per_step: int, max_staleness: int, max_refill_groups: int, max_steps: int) -> None:
        self.buffer = Buffer(
            groups_per_step=groups_per_step,
            max_staleness=max_staleness,
            max_refill_groups=max_refill_groups,
            max_steps=max_steps,
        )
        self.started_at: dict[int, int] = {}  # ordinal -> step
        self.in_flight: set[int] = set()
        self.ready: set[int] = set()
        self.rejected: list[int] = []
        self.trained: list[list[int]] = []
        self.rejected_since_take = 0
        self.started_since_take = 0
        self.entries: list[LedgerEntry] = []

    @property
    def done(self) -> bool:
        return self.buffer.step >= self.buffer.max_steps

    @precondition(lambda self: self.buffer.admissible() > 0)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, self.buffer.admissible()))):
            ordinal = self.buffer.start()
            assert ordinal == len(self.started_at), "problems start in the order of the stream, none left out"
            self.started_at[ordinal] = self.buffer.step
            self.in_flight.add(ordinal)
            self.started_since_take += 1

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        ordinal = self._pick(data)
        self.ready.add(ordinal)
        self.buffer.finish(make_ready(ordinal))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        ordinal = self._pick(data)
        self.rejected.append(ordinal)
        self.rejected_since_take += 1
        self.buffer.reject(make_group([1.0, 1.0], ordinal), "zero_variance")

    def _pick(self, data: st.DataObject) -> int:
        ordinal = data.draw(st.sampled_from(sorted(self.in_flight)))
        self.in_flight.remove(ordinal)
        return ordinal

    @precondition(lambda self: not self.done)
    @rule()
    def take(self) -> None:
        step, more_may_come = self.buffer.step, bool(self.in_flight or self.buffer.admissible())
        due = sorted(self.ready)[: self.buffer.groups_per_step]
        taken = self.buffer.take()
        if taken is None:
            assert more_may_come, "waiting for what cannot come"
            assert self.buffer.step == step
            is_full = len(due) == self.buffer.groups_per_step
            assert not is_full or min(self.in_flight) < due[-1], "all that is due is there, and yet it waits"
            return
        ordinals = [group.ordinal for group in taken]
        assert ordinals == due
        assert len(ordinals) == self.buffer.groups_per_step or not more_may_come
        assert all(other > ordinals[-1] for other in self.in_flight | (self.ready - set(ordinals)) if ordinals)
        assert all(step - self.started_at[ordinal] <= self.buffer.max_staleness for ordinal in ordinals)
        assert self.buffer.step == step + 1
        self.ready -= set(ordinals)
        self.trained.append(ordinals)
        self.rejected_since_take = self.started_since_take = 0

    @rule()
    def drain(self) -> None:
        self.entries += self.buffer.drain_ledger()

    @invariant()
    def admission_is_bounded(self) -> None:
        buffer = self.buffer
        bound = (buffer.max_staleness + 1) * buffer.groups_per_step
        assert len(buffer.in_flight) + len(buffer.ready) + buffer.admissible() <= bound
        assert buffer.admissible() >= 0

    @invariant()
    def the_books_agree(self) -> None:
        assert self.buffer.in_flight == self.in_flight
        assert set(self.buffer.ready) == self.ready

    @invariant()
    def nothing_starts_for_steps_that_will_not_happen(self) -> None:
        buffer = self.buffer
        waiting = len(buffer.in_flight) + len(buffer.ready)
        if buffer.admissible():
            assert waiting + buffer.admissible() <= (buffer.max_steps - buffer.step) * buffer.groups_per_step

    @invariant()
    def refills_stay_under_the_cap(self) -> None:
        """Every start is due to the step's own new places or to a rejection; the latter are capped per step."""
        buffer = self.buffer
        refills = len(self.started_at) - buffer.num_fresh
        assert 0 <= buffer.num_refills <= buffer.max_refill_groups
        assert refills <= buffer.max_refill_groups * (buffer.step + 1)
        assert refills <= len(self.rejected)
        places = min(buffer.step + buffer.max_staleness + 1, buffer.max_steps) * buffer.groups_per_step
        assert buffer.num_fresh <= places

    @invariant()
    def a_free_place_is_offered_unless_the_cap_forbids_it(self) -> None:
        buffer = self.buffer
        places = min(buffer.max_staleness + 1, buffer.max_steps - buffer.step) * buffer.groups_per_step
        free = places - len(self.in_flight) - len(self.ready)
        if buffer.admissible() < free:
            assert buffer.num_refills + buffer.admissible() >= buffer.max_refill_groups
        assert buffer.refill_cap_reached == (free > 0 and buffer.admissible() == 0)

    @invariant()
    def every_group_has_at_most_one_end(self) -> None:
        self.entries += self.buffer.drain_ledger()
        ended = [entry.ordinal for entry in self.entries]
        assert len(set(ended)) == len(ended)
        assert set(ended) == set(self.started_at) - self.in_flight - self.ready
        assert [entry.ordinal for entry in self.entries if entry.end == "rejected"] == self.rejected
        trained = [(entry.step, entry.ordinal) for entry in self.entries if entry.end == "trained"]
        assert trained == [(step, ordinal) for step, taken in enumerate(self.trained, start=1) for ordinal in taken]
        assert sorted(trained) == sorted(trained, key=lambda pair: pair[1]), "consumed in problem order"

    def teardown(self) -> None:
        """From wherever it stands, the run comes to its end, and then every group has had one."""
        if not hasattr(self, "buffer"):
            return
        while not self.done:
            while self.buffer.admissible():
                ordinal = self.buffer.start()
                self.started_at[ordinal] = self.buffer.step
                self.in_flight.add(ordinal)
            step = self.buffer.step
            for ordinal in sorted(self.in_flight, reverse=True):
                self.in_flight.remove(ordinal)
                if ordinal % 3:
                    self.rejected.append(ordinal)
                    self.buffer.reject(make_group([1.0, 1.0], ordinal), "zero_variance")
                else:
                    self.ready.add(ordinal)
                    self.buffer.finish(make_ready(ordinal))
            if not self.buffer.admissible():
                taken = self.buffer.take()
                assert taken is not None, "deadlock: nothing in flight, nothing admissible, nothing taken"
                assert self.buffer.step == step + 1
                self.ready -= {group.ordinal for group in taken}
                self.trained.append([group.ordinal for group in taken])
        self.every_group_has_at_most_one_end()
        if not self.in_flight:
            assert not self.ready, "a group that was ready was never learned from"


BufferMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestBuffer = BufferMachine.TestCase
