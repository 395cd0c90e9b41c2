"""Several engines, each in a process of its own, as one engine.

Groups are shared out among the replicas; weights go to all through one parcel in shared memory. A replica that dies is
taken out at once, the others answer what it left unanswered, with the same seeds, and another process starts in its
place, which takes part from the next publish on. The fleet waits for its replicas' connections and for their ends, and
is unblocked by either, or by its patience.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Completion
from grpo.engine.parcel import SHARED_MEMORY, Parcel
from grpo.engine.protocol import Request
from grpo.engine.replica import (
    Answer,
    Cancel,
    Failed,
    Load,
    Lost,
    Order,
    Replica,
    Reply,
    Sample,
    Score,
    Start,
    hear,
    new_ticket,
)
from grpo.engine.replica_proof import Probe, check_receipt, check_scores
from grpo.engine.sampling_round import SamplingRound
from grpo.errors import EngineError
from grpo.processes import ChildDiedError
from grpo.weights import Receipt, Tensors

START_PATIENCE_S = 1800.0  # a large checkpoint from a slow disk
MAX_DEATHS, WITHIN_LOADS = 3, 10


@dataclass(slots=True)
class _Place:
    """Where replicas run, one after another."""

    name: str
    log: Path
    environment: Mapping[str, str]
    replica: Replica | None = None  # None: left out
    deaths: list[int] = field(default_factory=list)  # the number of loads before each


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMember:
    """One replica, as the proof of a publish sees it."""

    name: str
    pid: int
    version: int
    score: Callable[[Sequence[int]], npt.NDArray[np.float32]]


class EngineFleet:
    """Implements `grpo.engine.protocol.Engine` with engines in processes of their own.

    Args:
        start: what each replica is made from.
        num_replicas: how many.
        decode: tokens to text.
        logs: folder for ``engine-0.log`` and so on: all that a replica writes.
        num_threads: threads of each replica's arithmetic.
        devices: the GPUs of each replica, by their place among those that this process sees; empty on a CPU.
        report: is told, in sentences, what befalls a replica.
        patience_s: seconds after which a replica that says nothing, though something is expected, counts as dead, and
            one that reads nothing of what it is sent; while it samples, the time that one longest answer may take
            comes on top of the first.
        parcels: folder of the file that carries the weights; see `grpo.engine.parcel.Parcel`.

    Raises:
        EngineError: a replica did not start; the message has its last words.
        UserError: it says that something in the recipe or on this machine is to mend.
    """

    def __init__(
        self,
        start: Start,
        *,
        num_replicas: int,
        decode: Callable[[Sequence[int]], str],
        logs: Path,
        num_threads: int,
        devices: Sequence[tuple[int, ...]] = (),
        report: Callable[[str], None],
        patience_s: float = 300.0,
        parcels: Path = SHARED_MEMORY,
    ) -> None:
        self.version = 0
        self._start, self._decode, self._report, self._patience_s = start, decode, report, patience_s
        self._round: SamplingRound | None = None
        self._num_loads, self._kept_version = 0, 0
        self._probe: Probe | None = None  # of the version in use
        self._last_obituary = ""
        self._restarts, self._imbalance, self._publish_rate = 0, 0.0, 0.0
        self._places = {
            name: _Place(name, logs / f"{name}.log", _environment(num_threads, devices[i] if devices else ()))
            for i, name in enumerate(f"engine-{i}" for i in range(num_replicas))
        }
        self._parcel = Parcel(parcels)
        try:
            for place in self._places.values():
                self._begin(place)
            for replica in self._started(lost=_refuse):
                replica.takes_part = True
        except BaseException:
            self.close()
            raise

    @property
    def replicas(self) -> tuple[FleetMember, ...]:
        """Those that take part."""

        def member(replica: Replica) -> FleetMember:
            return FleetMember(
                name=replica.name,
                pid=replica.pid,
                version=replica.version,
                score=lambda token_ids: self._score_by(replica, token_ids),
            )

        return tuple(member(replica) for replica in self._partakers())

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield each answer as it arrives from any replica; see `grpo.engine.protocol.Engine`.

        Each request is answered once, whichever replicas die meanwhile. Abandoning the iterator cancels the rest.

        Raises:
            EngineError: a request cannot be served, other answers are being sampled, or no replica is left.
        """
        if self._round is not None:
            raise EngineError("other answers are still being sampled: finish or close their iterator first")
        current = self._round = SamplingRound(new_ticket(), requests)
        try:
            self._hand_out(current, current.keys)
            while debtors := [replica for replica in self._partakers() if current.owes(replica.name)]:
                heard = hear(debtors, self._patience_s + current.longest_s)
                orphans = self._take_out_lost(current, heard)
                for replica, message in heard:
                    if not isinstance(message, Lost) and message[0] == current.ticket:
                        yield current.settle(replica.name, _answer(replica, message[1]), self._decode)
                self._hand_out(current, orphans)  # last, for it may find that others died, whose answers stand above
        finally:
            self._round = None
            self._imbalance = current.imbalance()
            self._cancel(current)

    def load(self, tensors: Tensors, version: int) -> Receipt:
        """Write the weights once and have every replica load them; those starting again are waited for and join.

        Raises:
            PublishError: a replica received other bytes than were written, or holds another version.
            EngineError: answers are being sampled, the parcel does not fit, or no replica is left.
        """
        if self._round is not None:
            raise EngineError(f"weights of version {version} came while answers of {self.version} are being sampled")
        started = time.perf_counter()
        self._num_loads += 1
        for replica in self._partakers():
            if not replica.is_alive():
                self._take_out(replica, replica.obituary())
        self._parcel.write(tensors)
        self._kept_version, self._probe = version, None
        receipts = self._deliver(self._partakers())
        while newcomers := self._started(lost=self._take_out):
            receipts += self._deliver(newcomers)
        self.version = version
        self._publish_rate = self._parcel.num_bytes / (time.perf_counter() - started)
        return Receipt.of_all(receipts)

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """The first replica's log-probabilities at temperature 1 of tokens 1..L-1; shape (L-1,).

        Raises:
            EngineError: the text does not fit the window, answers are being sampled, or no replica is left.
        """
        return self._score_by(self._partakers_or_revived()[0], token_ids)

    def take_metrics(self) -> dict[str, float]:
        """Restarts are those since the last call, imbalance is the last sampling's, the rate the last publish's."""
        metrics = {"engine/replicas": float(len(self._partakers())), "engine/restarts": float(self._restarts)}
        if self._imbalance:
            metrics["engine/imbalance"] = self._imbalance
        if self._publish_rate:
            metrics["publish/bytes_per_second"] = self._publish_rate
        self._restarts = 0
        return metrics

    def close(self) -> None:
        """End all replicas and remove the parcel. Idempotent."""
        replicas = [*self._partakers(), *self._starting()]
        for replica in replicas:
            replica.hang_up()
        for replica in replicas:  # by now they end side by side
            replica.close()
            self._places[replica.name].replica = None
        self._parcel.close()

    # who is there

    def _partakers(self) -> list[Replica]:
        return [place.replica for place in self._places.values() if place.replica and place.replica.takes_part]

    def _starting(self) -> list[Replica]:
        return [place.replica for place in self._places.values() if place.replica and not place.replica.takes_part]

    def _partakers_or_revived(self) -> list[Replica]:
        """At least one, which is waited for where all have died: it gets the weights that are still in the parcel."""
        while not (partakers := self._partakers()):
            if self._num_loads and not (self._parcel.hashes and self._kept_version == self.version):
                raise EngineError(f"no engine is left, and no weights to start one with: {self._last_obituary}")
            newcomers = self._started(lost=self._take_out, enough=1)
            if self._num_loads:  # otherwise the checkpoint that they started with is the version in use
                self._deliver(newcomers)
            self._prove(newcomers)
            for replica in newcomers:
                replica.takes_part = True
        return partakers

    def _prove(self, newcomers: Sequence[Replica]) -> None:
        """Those that started again compute as one did that was proven; see `grpo.engine.replica_proof`."""
        if (probe := self._probe) is None:
            return
        suspect = next(iter(self._parcel.hashes), "any")
        for replica, scores in self._gather(newcomers, Score(probe.token_ids)).items():
            assert isinstance(scores, np.ndarray), "what is scored is an array"
            exact = self._start.dtype == "float32"
            check_scores(replica.name, scores, probe, exact=exact, version=self.version, suspect=suspect)

    def _begin(self, place: _Place) -> None:
        place.replica = Replica(
            place.name, self._start, log=place.log, environment=place.environment, patience_s=self._patience_s
        )

    def _started(self, *, lost: Callable[[Replica, str], None], enough: int | None = None) -> list[Replica]:
        """Replicas that have started and take no part yet: all of those starting, or as many as are enough.

        Raises:
            EngineError: no replica is left, neither starting nor taking part.
        """
        while starting := {r: r.start_ticket for r in self._starting() if not r.has_started}:
            for replica in self._replies(starting, START_PATIENCE_S, lost=lost, enough=enough):
                replica.has_started = True
            if enough is not None and sum(replica.has_started for replica in self._starting()) >= enough:
                break
        started = [replica for replica in self._starting() if replica.has_started]
        if not started and not self._partakers():
            raise EngineError(f"no engine is left: {self._last_obituary}")
        return started

    def _take_out(self, replica: Replica, obituary: str) -> None:
        """Another starts in its place at once, unless too many have died there lately."""
        place = self._places[replica.name]
        if place.replica is not replica:
            return  # already out
        replica.close()
        place.deaths.append(self._num_loads)
        self._last_obituary = obituary
        recent = [at for at in place.deaths if self._num_loads - at < WITHIN_LOADS]
        if len(recent) >= MAX_DEATHS:
            place.replica = None
            self._report(f"{obituary}\n{place.name} has died {len(recent)} times lately and is left out from now on")
            return
        self._begin(place)
        self._restarts += 1
        self._report(f"{obituary}\n{place.name} starts again and takes part from the next publish on")

    # asking and hearing

    def _hand_out(self, current: SamplingRound, keys: Iterable[int]) -> None:
        """Order answers from the replicas; again from others where one turns out to be dead."""
        pending = list(keys)
        while pending:
            partakers = {replica.name: replica for replica in self._partakers_or_revived()}
            shares, pending = current.shares(pending, list(partakers)), []
            for name, share in shares.items():
                try:
                    partakers[name].order(Sample(current.questions(share)), current.ticket)
                    current.owe(name, share)
                except ChildDiedError as death:
                    self._take_out(partakers[name], str(death))
                    pending += [*share, *current.release(name)]

    def _take_out_lost(
        self, current: SamplingRound, heard: Sequence[tuple[Replica, tuple[int, Reply] | Lost]]
    ) -> list[int]:
        """Take out the replicas that were lost; returns what they leave unanswered."""
        lost = [(replica, message) for replica, message in heard if isinstance(message, Lost)]
        for replica, message in lost:
            self._take_out(replica, message.obituary)
        return [key for replica, _ in lost for key in current.release(replica.name)]

    def _cancel(self, current: SamplingRound) -> None:
        for replica in self._partakers():
            if current.owes(replica.name):
                try:
                    replica.order(Cancel(), current.ticket)
                except ChildDiedError as death:
                    self._take_out(replica, str(death))

    def _deliver(self, replicas: Sequence[Replica]) -> list[Receipt]:
        """Have replicas load the parcel, each on its own, and take part; returns the receipts of those that survive."""
        receipts = []
        for replica, receipt in self._gather(replicas, Load(self._parcel.path, self._kept_version)).items():
            assert isinstance(receipt, Receipt), "what is loaded is receipted"
            written, sent = self._parcel.hashes, self._kept_version
            check_receipt(replica.name, receipt, written, version=sent, version_held=replica.version)
            replica.version, replica.takes_part = receipt.version, True
            receipts.append(receipt)
        return receipts

    def _score_by(self, replica: Replica, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """One replica's score; another's where that one dies, for then it has no part in what is proven."""
        if self._round is not None:
            raise EngineError("cannot score while answers are being sampled")
        scored = self._gather([replica], Score(tuple(token_ids)))
        if replica not in scored:
            return self.score(token_ids)
        scores = scored[replica]
        assert isinstance(scores, np.ndarray), "what is scored is an array"
        self._probe = Probe(token_ids=tuple(token_ids), scores=scores)
        return scores

    def _gather(self, replicas: Sequence[Replica], order: Order) -> dict[Replica, Reply]:
        """Each replica's reply to an order that goes to all; those that die are taken out."""
        waiting = {}
        for replica in replicas:
            try:
                waiting[replica] = replica.order(order)
            except ChildDiedError as death:
                self._take_out(replica, str(death))
        return self._replies(waiting, self._patience_s, lost=self._take_out)

    def _replies(
        self,
        tickets: Mapping[Replica, int],
        patience_s: float,
        *,
        lost: Callable[[Replica, str], None],
        enough: int | None = None,
    ) -> dict[Replica, Reply]:
        """The reply to each replica's ticket, in the replicas' order; raises the error of one that could not serve."""
        waiting, replies = dict(tickets), dict[Replica, Reply]()
        while waiting and (enough is None or len(replies) < enough):
            for replica, message in hear(list(waiting), patience_s):
                if isinstance(message, Lost):
                    del waiting[replica]
                    lost(replica, message.obituary)
                elif message[0] == waiting[replica]:
                    del waiting[replica]
                    replies[replica] = _served(replica, message[1])
        return {replica: replies[replica] for replica in tickets if replica in replies}


def _refuse(_replica: Replica, obituary: str) -> None:
    """A replica that dies at the first start would die again."""
    raise EngineError(f"{obituary}\nThe engine did not start")


def _served(replica: Replica, reply: Reply) -> Reply:
    if isinstance(reply, Failed):
        raise reply.error(replica.name)
    return reply


def _answer(replica: Replica, reply: Reply) -> Answer:
    answer = _served(replica, reply)
    assert isinstance(answer, Answer), "requests are answered"
    return answer


def _environment(num_threads: int, devices: tuple[int, ...]) -> dict[str, str]:
    """What a replica's process has of its own: its threads, and its GPUs among those that this process may use."""
    environment = {"OMP_NUM_THREADS": str(num_threads)}
    if devices:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else None
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(names[i] if names else str(i) for i in devices)
    return environment
