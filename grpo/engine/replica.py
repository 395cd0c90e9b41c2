"""One engine in a process of its own, as the process that started it sees it; ``replica_process`` is the other side.

Both sides send ``(ticket, message)``. An order's ticket comes back with every reply to it, so that what an abandoned
order still yields is told from what is waited for now.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grpo.datatypes import FinishReason, FloatArray, IntArray
from grpo.engine.protocol import Request, Sampling
from grpo.errors import EngineError, RunError, UserError
from grpo.processes import Child, ChildDiedError
from grpo.recipe import Rollout
from grpo.weights import Receipt

new_ticket = itertools.count(1).__next__


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the engine is made from; see ``grpo.engine.make_engine``."""

    model: str
    rollout: Rollout
    dtype: str
    max_model_len: int
    on_gpu: bool
    seed: int
    engine_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One answer to sample: no more of its prompt than the engine needs, and never its reference."""

    key: int  # which request of the round it is
    problem_id: str  # these two name it in messages
    attempt: int
    token_ids: tuple[int, ...]
    seed: int
    sampling: Sampling

    @classmethod
    def of(cls, key: int, request: Request) -> "Question":
        prompt = request.prompt
        return cls(
            key=key,
            problem_id=prompt.problem.problem_id,
            attempt=prompt.attempt,
            token_ids=prompt.token_ids,
            seed=request.seed,
            sampling=request.sampling,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """What the order of this ticket has not sampled yet is not wanted any more; no reply."""


@dataclass(frozen=True, slots=True)
class Load:
    parcel: Path
    version: int


@dataclass(frozen=True, slots=True)
class Score:
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine stands, with the weights that it found at the path of its model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    key: int
    token_ids: IntArray  # (L,)
    behavior_logprobs: FloatArray  # (L,)
    version: int
    finish_reason: FinishReason
    busy_s: float  # spent sampling since the order's last answer


@dataclass(frozen=True, slots=True)
class Failed:
    """The order could not be served; the engine goes on."""

    message: str
    for_user: bool  # something to mend in the recipe or the machine

    def error(self, name: str) -> UserError | RunError:
        return (UserError if self.for_user else EngineError)(f"{name}: {self.message}")


Order = Start | Sample | Cancel | Load | Score
Reply = Ready | Answer | Receipt | npt.NDArray[np.float32] | Failed


@dataclass(frozen=True, slots=True)
class Lost:
    """It died, or said nothing for too long and was killed."""

    obituary: str


class Replica:
    """A running replica. Starting takes it a while, and it is heard like any other reply.

    Attributes:
        version: of the weights that it last said to hold.
        start_ticket: of the order to start.
        has_started: whether its engine stands.
        takes_part: whether it has started and holds the weights that the others hold.
    """

    def __init__(
        self, name: str, start: Start, *, log: Path, environment: Mapping[str, str], patience_s: float
    ) -> None:
        self.name, self.version = name, 0
        self.has_started = self.takes_part = False
        module = "grpo.engine.replica_process"
        self._child = Child(name, module, log=log, environment=environment, patience_s=patience_s)
        self._sentinel = os.pidfd_open(self._child.pid)
        self._heard_at = time.monotonic()
        self.start_ticket = new_ticket()
        with contextlib.suppress(ChildDiedError):  # whoever waits for the reply will hear of it
            self.order(start, self.start_ticket)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def channels(self) -> tuple[int, int]:
        """File descriptors; one becomes readable when it speaks or ends."""
        return self._child.connection.fileno(), self._sentinel

    def is_alive(self) -> bool:
        return self._child.is_alive()

    def obituary(self) -> str:
        return self._child.obituary()

    def silent_s(self) -> float:
        """Seconds since it was last heard or asked something."""
        return time.monotonic() - self._heard_at

    def order(self, order: Order, ticket: int | None = None) -> int:
        """Send an order; returns its ticket, a new one unless it is given. Raises ChildDiedError."""
        ticket = new_ticket() if ticket is None else ticket
        self._child.send((ticket, order))
        self._heard_at = time.monotonic()
        return ticket

    def take(self, patience_s: float) -> tuple[int, Reply] | Lost | None:
        """What it has said, without waiting: first all that it said, then that it died or has been silent too long."""
        connection = self._child.connection
        if connection.poll():
            try:
                message: tuple[int, Reply] = self._child.receive()
            except ChildDiedError as death:
                return Lost(str(death))
            self._heard_at = time.monotonic()
            return message
        if not self._child.is_alive():
            return Lost(self._child.obituary())
        if self.silent_s() >= patience_s:
            self._child.kill()
            return Lost(f"{self.name} (process {self.pid}) said nothing for {patience_s:.0f} s and was killed")
        return None

    def hang_up(self) -> None:
        """Ask it to end, without waiting; one that is still starting does not listen and is killed."""
        if self.has_started:
            self._child.connection.close()
        elif self._sentinel >= 0:
            self._child.kill()

    def close(self) -> None:
        """End it, with all that it started. Idempotent."""
        if self._sentinel >= 0:
            self.hang_up()
            self._child.end()
            os.close(self._sentinel)
            self._sentinel = -1


def hear(replicas: Sequence[Replica], patience_s: float) -> list[tuple[Replica, tuple[int, Reply] | Lost]]:
    """One message from each replica that has one, waiting for the first; those silent for ``patience_s`` are lost."""
    longest = max(replica.silent_s() for replica in replicas)
    wait([channel for replica in replicas for channel in replica.channels], max(0.0, patience_s - longest))
    heard = ((replica, replica.take(patience_s)) for replica in replicas)
    return [(replica, message) for replica, message in heard if message is not None]
