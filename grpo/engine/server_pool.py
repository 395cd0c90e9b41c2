"""Which servers take part: those that were started as the run needs them, answer, and hold its weights."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grpo.engine.server_client import ServerClient, ServerGoneError, Settings
from grpo.engine.server_command import LOGPROBS_MODE
from grpo.errors import EngineError

AS_LOADED = "default"  # vLLM's label for the weights that a server was started with
VLLM = "0.32."  # whose routes these are
START_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What every server must have been started with."""

    model: str
    dtype: str
    max_model_len: int  # or more
    backend: str

    def mistakes(self, found: Settings) -> list[str]:
        """Each setting that is another one, in words."""
        pairs = (
            ("the model", found.model, self.model),
            ("--dtype", found.dtype, self.dtype),
            ("--logprobs-mode", found.logprobs_mode, LOGPROBS_MODE),
            ("the weight-transfer backend", found.backend, self.backend),
        )
        mistakes = [f"{what} {was!r} instead of {wanted!r}" for what, was, wanted in pairs if was != wanted]
        if found.max_model_len < self.max_model_len:
            mistakes.append(f"--max-model-len {found.max_model_len} instead of at least {self.max_model_len}")
        if not found.vllm_version.startswith(VLLM):
            mistakes.append(f"vLLM {found.vllm_version} instead of {VLLM}x")
        return mistakes


class ServerPool:
    """The servers of one run.

    Args:
        report: is told, in sentences, what befalls a server.
    """

    def __init__(self, servers: Sequence[ServerClient], expected: Expected, report: Callable[[str], None]) -> None:
        self.expected = expected
        self._servers, self._report = tuple(servers), report
        self._present: dict[ServerClient, Settings] = {}
        self._lost: set[ServerClient] = set()
        self._obituary = "the weights that they hold are another run's, and none have been published yet"

    @property
    def present(self) -> list[ServerClient]:
        """Those that take part, in the order of their addresses."""
        return [server for server in self._servers if server in self._present]

    def settings(self, server: ServerClient) -> Settings:
        return self._present[server]

    def some_present(self) -> list[ServerClient]:
        """Those that take part, at least one; raises EngineError where there is none."""
        if not self._present:
            raise EngineError(f"no server is left: {self._obituary}. Start one with:\n{self._servers[0].command}")
        return self.present

    def start(self, patience_s: float) -> None:
        """Wait for all servers, and have those take part that still hold the weights they were started with.

        Raises:
            EngineError: one does not answer in ``patience_s`` seconds, or was started otherwise than it must be.
        """
        deadline = time.monotonic() + patience_s
        waiting = [server for server in self._servers if not server.is_healthy()]
        for server in waiting:
            self._report(f"waiting up to {patience_s:.0f} s for {server.address}. Start it with:\n{server.command}")
        while waiting:
            if time.monotonic() > deadline:
                raise EngineError(f"{waiting[0].address} does not answer. Start it with:\n{waiting[0].command}")
            time.sleep(START_PAUSE_S)
            waiting = [server for server in waiting if not server.is_healthy()]
        for server in self._servers:
            settings = self._checked(server)
            if server.weight_version() == AS_LOADED:
                self._present[server] = settings

    def take_out(self, server: ServerClient, death: ServerGoneError) -> None:
        """It takes no part until the next ``readmit`` that finds it there."""
        if self._present.pop(server, None) is not None:
            self._lost.add(server)
            self._obituary = str(death)
            self._report(
                f"{death}\n{server.name} is taken out, and takes part again from the first publish on that finds it "
                f"there. Start it with:\n{server.command}"
            )

    def readmit(self) -> int:
        """Have all take part that answer; the number of those that were lost before.

        One that was started otherwise than it must be stays out.

        Raises:
            EngineError: none answers.
        """
        for server in self._servers:
            if server not in self._present and server.is_healthy():
                try:
                    self._present[server] = self._checked(server)
                except (EngineError, ServerGoneError) as error:
                    self._report(f"{server.name} answers again and stays out: {error}")
        self.some_present()
        returned = self._lost & self._present.keys()
        self._lost -= returned
        return len(returned)

    def _checked(self, server: ServerClient) -> Settings:
        """Raises EngineError where a server was started otherwise than it must be."""
        found = server.settings()
        if mistakes := self.expected.mistakes(found):
            raise EngineError(f"{server.name} has {'; '.join(mistakes)}. Start it with:\n{server.command}")
        return found
