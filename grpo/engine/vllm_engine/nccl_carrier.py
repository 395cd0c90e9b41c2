"""The trainer's side of NCCL: weights from its GPU to those of servers, bucket after bucket.

vLLM's trainer engine wants to know names and shapes before it asks for tensors, and the learner gathers a layer only
when it is asked for. So each bucket is an update of its own to that engine, and all of them are one to the servers:
no side holds more than two buckets beside the model.

A broadcast that a server never joins does not return. It runs in a thread of its own, and what is waited for is
whichever comes first: its end, a server's refusal or loss, or the deadline.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLTrainerWeightTransferEngine

from grpo.buckets import buckets
from grpo.engine.server_client import ServerClient, ask_each
from grpo.engine.server_fanout import Fanout
from grpo.engine.server_weights import Shipment
from grpo.errors import EngineError
from grpo.weights import Tensors, fingerprint

BUCKET_BYTES = 256 << 20
POLL_S = 0.05

T = TypeVar("T")


class Bucket(WeightSource):
    """Some whole tensors on the GPU, as a source of vLLM's."""

    def __init__(self, tensors: Sequence[tuple[str, torch.Tensor]]) -> None:
        self._tensors = tensors

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self._tensors]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(self._tensors)


class NcclCarrier:
    """Broadcasts to all servers at once; the group is formed anew when other servers take part than before.

    Args:
        patience_s: for the forming of a group, and for one bucket.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._fanout = Fanout((), ())
        self._engine: NCCLTrainerWeightTransferEngine | None = None

    def send(self, tensors: Tensors, servers: Sequence[ServerClient]) -> Shipment:
        """See `Carrier`.

        Raises:
            EngineError: a server was lost or refused; the group is of no use any more, and the message names it.
        """
        engine = self._joined(tuple(servers))
        _, gone = ask_each(servers, ServerClient.start_update)
        for death in gone.values():
            raise EngineError(f"{death}; it was to receive weights by NCCL")
        hashes: dict[str, str] = {}
        num_bytes = 0
        on_gpu = ((name, tensor.to(self._device)) for name, tensor in tensors)
        for bucket in buckets(on_gpu, BUCKET_BYTES):
            engine.source = Bucket(bucket)
            self._within_patience(engine.send_weights, "the broadcast of weights")
            hashes |= {name: fingerprint(tensor) for name, tensor in bucket}
            num_bytes += sum(tensor.nbytes for _, tensor in bucket)
        return Shipment(hashes=hashes, num_bytes=num_bytes, gone={})

    def close(self) -> None:
        """Leave the group. Idempotent."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None

    def _joined(self, servers: tuple[ServerClient, ...]) -> NCCLTrainerWeightTransferEngine:
        """The engine of a group of this process and all workers of these servers."""
        if self._engine is not None and servers == self._fanout.servers:
            return self._engine
        self.close()
        world_sizes = [server.settings().world_size for server in servers]
        fanout = self._fanout = Fanout(servers, world_sizes)
        info = NCCLTrainerInitInfo(
            rank=0,
            master_address=_own_address(servers),
            master_port=_free_port(),
            world_size=1 + sum(world_sizes),
        )

        def join() -> NCCLTrainerWeightTransferEngine:
            return NCCLTrainerWeightTransferEngine.trainer_init(info, client=fanout, source=Bucket(()))

        self._engine = self._within_patience(join, "the forming of an NCCL group")
        return self._engine

    def _within_patience(self, action: Callable[[], T], what: str) -> T:
        """Its result. Raises EngineError where a server fails it, or it takes too long."""
        future: Future[T] = Future()

        def act() -> None:
            try:
                torch.cuda.set_device(self._device)  # each thread has its own
                future.set_result(action())
            except (RuntimeError, ValueError, OSError) as error:  # NCCL's and CUDA's errors, and ours, are the first
                future.set_exception(error)

        engine, self._engine = self._engine, None  # of no use after a failure: even leaving its group could hang
        threading.Thread(target=act, name="nccl", daemon=True).start()
        deadline = time.monotonic() + self._patience_s
        while not future.done():
            if self._fanout.failure is not None:
                raise self._fanout.failure
            if time.monotonic() > deadline:
                names = ", ".join(server.name for server in self._fanout.servers)
                raise EngineError(f"{what} with {names} did not end in {self._patience_s:.0f} s")
            time.sleep(POLL_S)
        result = future.result()
        self._engine = engine
        return result


def _own_address(servers: Sequence[ServerClient]) -> str:
    """This host's address on the way to the servers; on the way to one of another host, if there is one."""
    addresses = []
    for server in servers:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((server.host, server.port))  # of a datagram socket: nothing is sent
            addresses.append(str(probe.getsockname()[0]))
    return next((address for address in addresses if not address.startswith("127.")), addresses[0])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
