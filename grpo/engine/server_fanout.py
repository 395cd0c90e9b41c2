"""What sending weights by NCCL to several servers needs beside NCCL: their orders at once."""

from collections.abc import Callable, Sequence
from typing import Any

from grpo.engine.server_client import ServerClient, ServerGoneError, ask_each
from grpo.errors import EngineError


class Fanout:
    """vLLM's client of one server, for several: each learns its own first rank.

    Attributes:
        failure: the first error of a server, which is there before the exchange that it spoils has ended.
    """

    def __init__(self, servers: Sequence[ServerClient], world_sizes: Sequence[int]) -> None:
        self.servers = servers
        self._first_ranks = {server: 1 + sum(world_sizes[:place]) for place, server in enumerate(servers)}
        self.failure: EngineError | None = None

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        def join(server: ServerClient) -> None:
            info = init_info | {"rank_offset": self._first_ranks[server]}
            server.ask("POST", "/init_weight_transfer_engine", {"init_info": info})

        self._all(join)

    def start_weight_update(self) -> None:
        """Nothing: an update begins before its first bucket."""

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        assert isinstance(update_info, dict), "a broadcast is the same for all workers"
        self._all(lambda server: server.update(update_info))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Nothing: an update ends after its last bucket."""

    def _all(self, question: Callable[[ServerClient], None]) -> None:
        def ask(server: ServerClient) -> None:
            try:
                question(server)
            except ServerGoneError as death:
                self._fail(EngineError(f"{death}; it was receiving weights by NCCL, which all must take part in"))
            except EngineError as error:
                self._fail(error)

        ask_each(self.servers, ask)
        if self.failure is not None:
            raise self.failure

    def _fail(self, error: EngineError) -> None:
        self.failure = self.failure or error
