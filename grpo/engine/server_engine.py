"""Servers of vLLM (``vllm serve``), on this host or others, as one engine.

They are started and ended by others; see `grpo.engine.server_command.serve_command`. Groups are shared out among them,
new weights go to all. A server that does not answer is taken out at once and the others answer what it left
unanswered, with the same seeds; once it answers again it takes part from the next publish on.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Completion
from grpo.engine import server_wire
from grpo.engine.parcel import SHARED_MEMORY as SHARED_MEMORY_FOLDER
from grpo.engine.protocol import Request, check_fits
from grpo.engine.replica import new_ticket
from grpo.engine.replica_proof import check_receipt
from grpo.engine.sampling_round import SamplingRound
from grpo.engine.server_client import ServerClient, ServerGoneError, ask_each
from grpo.engine.server_command import NCCL, serve_command
from grpo.engine.server_pool import AS_LOADED, Expected, ServerPool
from grpo.engine.server_round import ServerRound
from grpo.engine.server_weights import Carrier, ParcelCarrier, backend_for
from grpo.errors import EngineError, MissingPackageError, PublishError
from grpo.recipe import Rollout
from grpo.weights import Receipt, Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMember:
    """One server, as the proof of a publish sees it."""

    name: str
    version: int
    score: Callable[[Sequence[int]], npt.NDArray[np.float32]]


class ServerEngine:
    """Implements `grpo.engine.protocol.Engine` with servers of vLLM.

    Servers that hold the weights of an earlier run take no part before the first ``load``.

    Args:
        addresses: of the servers, such as ``http://10.0.0.5:8000``.
        model: folder or hub id of the checkpoint, as the servers were started with it.
        rollout: the recipe's section; of use for the command that messages show.
        dtype: "float32" or "bfloat16", of the servers' copies.
        max_model_len: prompt and answer together, tokens.
        decode: tokens to text.
        on_gpu: whether trainer and servers have GPUs, so that weights may go by NCCL.
        seed: vLLM's own; answers follow from the requests' seeds alone.
        report: is told, in sentences, what befalls a server.
        start_patience_s: how long servers may take to come up.
        backend: how weights go, ``SHARED_MEMORY`` or ``NCCL`` of `grpo.engine.server_command`; absent: see
            `grpo.engine.server_weights.backend_for`.
        patience_s: for an answer over HTTP; while it samples, the time that one longest answer may take comes on top.
        parcels: folder of the file that carries weights to servers of this host; see `grpo.engine.parcel.Parcel`.

    Raises:
        EngineError: a server does not answer, or was started otherwise; the message has the command that is right.
        MissingPackageError: weights go by NCCL, and vLLM is not installed here.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        model: str,
        rollout: Rollout,
        dtype: str,
        max_model_len: int,
        decode: Callable[[Sequence[int]], str],
        on_gpu: bool,
        seed: int,
        report: Callable[[str], None],
        backend: str | None = None,
        start_patience_s: float = 1800.0,
        patience_s: float = 300.0,
        parcels: Path = SHARED_MEMORY_FOLDER,
    ) -> None:
        self.version = 0
        self._decode, self._max_model_len = decode, max_model_len
        self._run = uuid.uuid4().hex[:12]  # tells this trainer's labels from another's
        self._label = AS_LOADED
        self._round: SamplingRound | None = None
        self._request_ids = itertools.count()
        self._num_returned, self._imbalance, self._publish_rate = 0, 0.0, 0.0
        backend = backend or backend_for(addresses, on_gpu=on_gpu)
        expected = Expected(model=model, dtype=dtype, max_model_len=max_model_len, backend=backend)
        command = partial(serve_command, **asdict(expected), rollout=rollout, on_gpu=on_gpu, seed=seed)
        servers = [
            ServerClient(address, command=command(address=address), patience_s=patience_s) for address in addresses
        ]
        self._pool = ServerPool(servers, expected, report)
        self._pool.start(start_patience_s)
        self._carrier = _carrier(backend, patience_s, parcels)

    @property
    def replicas(self) -> tuple[ServerMember, ...]:
        """Those that take part."""

        def member(server: ServerClient) -> ServerMember:
            return ServerMember(
                name=server.name, version=self.version, score=lambda token_ids: self._score_by(server, token_ids)
            )

        return tuple(member(server) for server in self._pool.present)

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield each answer as it arrives from any server; see `grpo.engine.protocol.Engine`.

        Each request is answered once, whichever servers are lost meanwhile. Each call begins with empty prefix caches.
        Abandoning the iterator cancels the rest.

        Raises:
            EngineError: a request cannot be served, other answers are being sampled, or no server is left.
        """
        if self._round is not None:
            raise EngineError("other answers are still being sampled: finish or close their iterator first")
        for request in requests:
            check_fits(request, self._max_model_len)
        current = self._round = SamplingRound(new_ticket(), requests)
        try:
            self._take_out(ask_each(self._pool.some_present(), ServerClient.reset_prefix_cache)[1])
            asking = ServerRound(
                self._pool, current, label=self._label, version=self.version, request_id=self._request_id
            )
            yield from asking.answers(self._decode)
        finally:
            self._round = None
            self._imbalance = current.imbalance()

    def load(self, tensors: Tensors, version: int) -> Receipt:
        """Bring the weights to all servers, those included that have come back, and prove that each received them.

        Raises:
            PublishError: a server received other bytes than were sent, or holds another version.
            EngineError: answers are being sampled, a server refused the weights, or none is left.
        """
        if self._round is not None:
            raise EngineError(f"weights of version {version} came while answers of {self.version} are being sampled")
        started = time.perf_counter()
        self._num_returned += self._pool.readmit()
        shipment = self._carrier.send(tensors, self._pool.present)
        self._take_out(shipment.gone)
        receipts = self._finish(shipment.hashes, version)
        self._publish_rate = shipment.num_bytes / (time.perf_counter() - started)
        return Receipt.of_all(receipts)

    def _finish(self, sent: Mapping[str, str], version: int) -> list[Receipt]:
        """Have the servers compute with what they received; each worker's receipt, checked against what was sent."""
        label = f"{self._run}:{version}"

        def finish(server: ServerClient) -> tuple[str, list[Receipt]]:
            server.finish_update(label)
            told = server.call_workers("grpo_receipt")
            return server.weight_version(), [_receipt(version, worker) for worker in told]

        finished, gone = ask_each(self._pool.present, finish)
        self._take_out(gone)
        self._pool.some_present()
        for server, (held, receipts) in finished.items():
            if held != label:
                message = f"{server.name} calls its weights {held!r} where {label!r} was published"
                raise PublishError(message, tensor="any", version_sent=version, version_held=self.version)
            for receipt in receipts:
                check_receipt(server.name, receipt, sent, version=version, version_held=self.version)
        self.version, self._label = version, label
        return [receipt for _, receipts in finished.values() for receipt in receipts]

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """The first server's log-probabilities at temperature 1 of tokens 1..L-1; shape (L-1,).

        Raises:
            EngineError: the text does not fit the window, answers are being sampled, or no server is left.
        """
        return self._score_by(self._pool.some_present()[0], token_ids)

    def _score_by(self, server: ServerClient, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """One server's score; another's where that one is gone, for then it has no part in what is proven."""
        if self._round is not None:
            raise EngineError("cannot score while answers are being sampled")
        if not 0 < len(token_ids) < self._max_model_len:
            raise EngineError(f"cannot score {len(token_ids)} tokens; allowed are 1 to {self._max_model_len - 1}")
        body = server_wire.score_body(token_ids, self._request_id())
        try:
            return server_wire.read_score(server.ask("POST", server_wire.GENERATE, body), token_ids)
        except ServerGoneError as death:
            self._take_out({server: death})
        return self.score(token_ids)

    def take_metrics(self) -> dict[str, float]:
        """Restarts are the servers that came back since the last call; the rest is as in `EngineFleet`."""
        metrics = {"engine/replicas": float(len(self._pool.present)), "engine/restarts": float(self._num_returned)}
        if self._imbalance:
            metrics["engine/imbalance"] = self._imbalance
        if self._publish_rate:
            metrics["publish/bytes_per_second"] = self._publish_rate
        self._num_returned = 0
        return metrics

    def close(self) -> None:
        """Remove what carried the weights. The servers go on: who started them ends them. Idempotent."""
        self._carrier.close()

    def _take_out(self, gone: Mapping[ServerClient, ServerGoneError]) -> None:
        for server, death in gone.items():
            self._pool.take_out(server, death)

    def _request_id(self) -> str:
        return f"{self._run}-{next(self._request_ids)}"


def _receipt(version: int, told: Mapping[str, Any]) -> Receipt:
    """What one of a server's workers says it received."""
    missed, repacked = tuple(told["missed"]), tuple(told["repacked"])
    return Receipt(version=version, hashes=told["hashes"], missed=missed, repacked=repacked)


def _carrier(backend: str, patience_s: float, parcels: Path) -> Carrier:
    if backend != NCCL:
        return ParcelCarrier(parcels)
    try:
        from grpo.engine.vllm_engine.nccl_carrier import NcclCarrier
    except ImportError as error:
        raise MissingPackageError(
            f"weights go to servers by vLLM's NCCL engine, and vLLM cannot be imported here ({error}). Install it with "
            "`pip install 'grpo[gpu]'`"
        ) from error
    return NcclCarrier(patience_s=patience_s)
