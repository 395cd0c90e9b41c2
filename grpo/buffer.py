"""Admission, order and the ledger of groups: a pure state machine between producer and learner.

Staleness is bounded by admission: groups in flight plus groups ready never exceed
``(max_staleness + 1) x groups_per_step``. Nothing is ever dropped for being old. Groups are consumed in problem
order; a group that teaches nothing is rejected for a named reason and replaced, by exactly the shortfall and up to a
cap, by the next problems of the stream.
"""

from dataclasses import dataclass, field
from typing import Literal

from grpo.datatypes import Group, ReadyGroup

RejectReason = Literal["zero_variance", "unscored", "pass_rate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """The one end of one group.

    >>> LedgerEntry(group_id="gsm8k/3#0", ordinal=3, end="rejected", reason="zero_variance", step=1).end
    'rejected'
    """

    group_id: str
    ordinal: int
    end: Literal["trained", "rejected"]
    reason: RejectReason | None
    step: int  # counted from 1: the step that trained it, or that was being filled when it was rejected


@dataclass(slots=True)
class Buffer:
    """Consumes groups in any order of arrival; ``take`` waits for the one that is due.

    The producer asks ``admissible()`` how many groups it may start, calls ``start()`` for each, and hands it in with
    ``finish`` or ``reject``. The learner calls ``take()``, which is empty-handed (None) until a step's groups are
    there, or until no more can come.

    Args:
        groups_per_step: groups one step learns from.
        max_staleness: how many publishes may lie between sampling a group and learning from it.
        max_refill_groups: rejected groups replaced per step, at most.
        max_steps: nothing is admitted for steps that will not happen.
    """

    groups_per_step: int
    max_staleness: int
    max_refill_groups: int
    max_steps: int
    step: int = 0
    next_ordinal: int = 0
    num_fresh: int = 0  # groups started that were not refills, over all steps
    num_refills: int = 0  # refills started since the last take
    in_flight: set[int] = field(default_factory=set)
    ready: dict[int, ReadyGroup] = field(default_factory=dict)
    _ledger: list[LedgerEntry] = field(default_factory=list)

    def admissible(self) -> int:
        """How many groups may be started now."""
        return max(0, min(self._shortfall(), self._fresh_left() + self._refills_left()))

    def start(self) -> int:
        """Admit the next problem of the stream; returns its ordinal."""
        assert self.admissible() > 0, "a group was started that admission does not allow"
        if self._fresh_left() > 0:
            self.num_fresh += 1
        else:
            self.num_refills += 1
        ordinal = self.next_ordinal
        self.next_ordinal += 1
        self.in_flight.add(ordinal)
        return ordinal

    def finish(self, ready: ReadyGroup) -> None:
        """A sampled and scored group is ready to learn from."""
        self.in_flight.remove(ready.ordinal)
        self.ready[ready.ordinal] = ready

    def reject(self, group: Group, reason: RejectReason) -> None:
        """The group ends here; its place is free for the next problem."""
        self.in_flight.remove(group.prompt.ordinal)
        self._end(group.group_id, group.prompt.ordinal, "rejected", reason)

    def take(self) -> tuple[ReadyGroup, ...] | None:
        """The next step's groups in problem order, or None while one that is due may still come.

        Fewer than ``groups_per_step`` (perhaps none) when the cap on refilling was reached.
        """
        due = sorted(self.ready)[: self.groups_per_step]
        if len(due) < self.groups_per_step and (self.in_flight or self.admissible()):
            return None
        if due and self.in_flight and min(self.in_flight) < due[-1]:
            return None
        taken = tuple(self.ready.pop(ordinal) for ordinal in due)
        for ready in taken:
            self._end(ready.group_id, ready.ordinal, "trained", None)
        self.step += 1
        self.num_refills = 0
        return taken

    @property
    def refill_cap_reached(self) -> bool:
        """Whether groups are missing that the cap forbids to replace."""
        return self._shortfall() > 0 and self._fresh_left() == 0 and self._refills_left() == 0

    def drain_ledger(self) -> list[LedgerEntry]:
        """Entries since the last call."""
        entries, self._ledger = self._ledger, []
        return entries

    def _capacity(self) -> int:
        steps_ahead = min(self.max_staleness + 1, self.max_steps - self.step)
        return steps_ahead * self.groups_per_step

    def _shortfall(self) -> int:
        return max(0, self._capacity() - len(self.in_flight) - len(self.ready))

    def _fresh_left(self) -> int:
        return self.step * self.groups_per_step + self._capacity() - self.num_fresh

    def _refills_left(self) -> int:
        return self.max_refill_groups - self.num_refills

    def _end(
        self, group_id: str, ordinal: int, end: Literal["trained", "rejected"], reason: RejectReason | None
    ) -> None:
        entry = LedgerEntry(group_id=group_id, ordinal=ordinal, end=end, reason=reason, step=self.step + 1)
        self._ledger.append(entry)
