"""How new weights come to servers: the carrier for those on this host, and the choice between it and NCCL."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from grpo.engine.parcel import Parcel
from grpo.engine.server_client import ServerClient, ServerGoneError, ask_each
from grpo.engine.server_command import NCCL, SHARED_MEMORY
from grpo.errors import EngineError
from grpo.weights import Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What was sent, and which servers were lost on the way."""

    hashes: Mapping[str, str]  # the fingerprint of each tensor, by name
    num_bytes: int
    gone: Mapping[ServerClient, ServerGoneError]


class Carrier(Protocol):
    """Brings tensors to servers that wait for orders; what then has come of them is for the caller to ask."""

    def send(self, tensors: Tensors, servers: Sequence[ServerClient]) -> Shipment:
        """Start an update on each server and have it receive every tensor.

        Raises:
            EngineError: a server refused; or one was lost, where the others cannot go on without it.
        """
        ...

    def close(self) -> None: ...


class ParcelCarrier:
    """One parcel in shared memory, which all servers of this host read.

    Args:
        folder: see `grpo.engine.parcel.Parcel`.
    """

    def __init__(self, folder: Path) -> None:
        self._parcel = Parcel(folder)

    def send(self, tensors: Tensors, servers: Sequence[ServerClient]) -> Shipment:
        """See `Carrier`; a server that is lost takes no other along."""
        self._parcel.write(tensors)
        _, gone = ask_each(servers, self._deliver)
        return Shipment(hashes=self._parcel.hashes, num_bytes=self._parcel.num_bytes, gone=gone)

    def _deliver(self, server: ServerClient) -> None:
        server.start_update()
        server.update({"parcel": str(self._parcel.path)})

    def close(self) -> None:
        """Remove the parcel. Idempotent."""
        self._parcel.close()


def backend_for(addresses: Sequence[str], *, on_gpu: bool) -> str:
    """The weight-transfer backend of servers at these addresses: shared memory, unless one is on another host.

    Raises:
        EngineError: one is on another host, and there is no GPU for NCCL.
    """
    remote = [address for address in addresses if not _is_here(urlsplit(address).hostname or "")]
    if remote and not on_gpu:
        raise EngineError(
            f"{remote[0]} is on another host, which weights reach by NCCL alone, from GPU to GPU; and 'num_gpus' is 0. "
            "Run the server on this host, or the trainer on one with GPUs"
        )
    return NCCL if remote else SHARED_MEMORY


def _is_here(host: str) -> bool:
    """Whether a name or address is this host's: only then may a socket be bound to it."""
    try:
        candidates = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise EngineError(f"no host is known by the name {host!r} ({error.strerror})") from None
    for family, kind, protocol, _, place in candidates:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(place)
            except OSError:
                continue
            return True
    return False
