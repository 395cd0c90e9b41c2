"""One ``vllm serve`` server as its client sees it: questions over HTTP, and what went wrong said with its address.

The standard library's ``http.client`` is enough, one connection for each question: the trainer's host need not have
vLLM, whose HTTP client it would be, and a connection that is closed is how a server learns that an answer is not
wanted any more.
"""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from grpo.errors import EngineError

CONNECT_PATIENCE_S = HEALTH_PATIENCE_S = 10.0
CACHE_PAUSE_S = 0.02  # between two tries to empty a prefix cache that is still in use

T = TypeVar("T")


class ServerGoneError(Exception):
    """The server cannot be reached, or its engine has died; the text says which and how it showed."""


class RefusedError(EngineError):
    """The server answers, and not with what was asked for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a running server was started, as far as a trainer must know; ``dtype`` and lengths are those of its model."""

    model: str
    vllm_version: str
    dtype: str
    max_model_len: int
    max_num_seqs: int
    logprobs_mode: str
    backend: str
    world_size: int


class Hangup:
    """The connections on which answers are awaited; ``close`` ends them all and those that are opened later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[http.client.HTTPConnection] = set()
        self._closed = False

    @contextlib.contextmanager
    def watching(self, connection: http.client.HTTPConnection, patience_s: float) -> Iterator[None]:
        """Connect, and give what is then asked ``patience_s``; raises ServerGoneError where answers are not wanted."""
        try:
            connection.connect()
            connection.sock.settimeout(patience_s)
            with self._lock:  # from here on `close` finds a socket to shut
                if self._closed:
                    raise ServerGoneError("the answer is not wanted any more")
                self._connections.add(connection)
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for connection in self._connections:
                if connection.sock is not None:  # else http.client has let go of it: the answer is read
                    with contextlib.suppress(OSError):  # the other side was first
                        connection.sock.shutdown(socket.SHUT_RDWR)


class ServerClient:
    """Asks one server.

    Args:
        address: such as ``http://10.0.0.5:8000``.
        command: what starts such a server; the end of every message about a mistake in how it was started.
        patience_s: for an answer that computes nothing, or loads weights.
    """

    def __init__(self, address: str, *, command: str, patience_s: float) -> None:
        place = urlsplit(address)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise EngineError(f"{address!r} is no address of a server; such is http://127.0.0.1:8000")
        self.address, self.command = address.rstrip("/"), command
        self.host, self.port = place.hostname, place.port or (443 if place.scheme == "https" else 80)
        self.name = f"{self.host}:{self.port}"
        self._encrypted, self._prefix, self._patience_s = place.scheme == "https", place.path.rstrip("/"), patience_s

    def ask(
        self, method: str, path: str, body: object = None, *, patience_s: float = 0.0, hangup: Hangup | None = None
    ) -> Any:
        """The server's answer, parsed; None where it is empty.

        Args:
            patience_s: beyond the client's own.

        Raises:
            RefusedError: the answer's status is an error's; the message has the address, the status and the reason.
            ServerGoneError: there is no answer.
        """
        try:
            status, content = self._exchange(method, path, body, self._patience_s + patience_s, hangup or Hangup())
        except (OSError, http.client.HTTPException) as error:
            raise ServerGoneError(f"{self.name} does not answer: {error or type(error).__name__}") from None
        if status < HTTPStatus.BAD_REQUEST:
            return json.loads(content) if content else None
        reason = f"{status} {http.client.responses.get(status, '')}: {_message_in(content)}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not self.is_healthy():
            raise ServerGoneError(f"{self.name}: its engine has died ({reason})")
        raise RefusedError(f"{self.name} answers {method} {path} with {reason}", status)

    def _exchange(self, method: str, path: str, body: object, patience_s: float, hangup: Hangup) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._encrypted else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=CONNECT_PATIENCE_S)
        with hangup.watching(connection, patience_s):
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, self._prefix + path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()

    def is_healthy(self) -> bool:
        """Whether it answers, and its engine lives."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._exchange("GET", "/health", None, HEALTH_PATIENCE_S, Hangup())[0] == HTTPStatus.OK
        return False

    def settings(self) -> Settings:
        """How it was started.

        Raises:
            EngineError: it was started without what a trainer needs; the message has the command that has it all.
            ServerGoneError: it does not answer.
        """
        try:
            (model,) = self.ask("GET", "/v1/models")["data"][:1]
            told = self.call_workers("grpo_settings")[0]
            version = self.ask("GET", "/version")["version"]
        except RefusedError as error:
            raise EngineError(f"{error}. Start it with:\n{self.command}") from None
        return Settings(model=model["root"], vllm_version=version, **told)

    def call_workers(self, method: str) -> list[Any]:
        """What each of the server's workers returns."""
        results: list[Any] = self.ask("POST", "/collective_rpc", {"method": method})["results"]
        return results

    def weight_version(self) -> str:
        """The label of the last weights, or "default" where it holds those that it was started with."""
        return str(self.ask("GET", "/weight_info")["weight_version"])

    def start_update(self) -> None:
        """Ready its parameters for new weights; an update that another trainer left unfinished is finished first.

        Raises:
            EngineError: something is still being computed, which would go on with weights half new.
        """
        self.reset_prefix_cache()
        try:
            self.ask("POST", "/start_weight_update")
        except RefusedError as error:
            if "already active" not in str(error):
                raise
            self.ask("POST", "/finish_weight_update", {})
            self.ask("POST", "/start_weight_update")

    def update(self, update_info: dict[str, Any]) -> None:
        """Receive tensors, in the way that its backend knows."""
        self.ask("POST", "/update_weights", {"update_info": update_info})

    def finish_update(self, label: str) -> None:
        """Compute with the new weights from now on, and call them ``label``."""
        self.ask("POST", "/finish_weight_update", {"weight_version": label})
        self.reset_prefix_cache()

    def reset_prefix_cache(self) -> None:
        """Forget what earlier prompts left; waits for what is still being aborted.

        Raises:
            EngineError: something is still being computed: somebody else uses the server.
        """
        deadline = time.monotonic() + self._patience_s
        while not self.ask("POST", "/reset_prefix_cache")["success"]:
            if time.monotonic() > deadline:
                raise EngineError(f"{self.name}: its prefix cache stays in use. Does another program use this server?")
            time.sleep(CACHE_PAUSE_S)


def ask_each(
    servers: Sequence[ServerClient], question: Callable[[ServerClient], T]
) -> tuple[dict[ServerClient, T], dict[ServerClient, ServerGoneError]]:
    """Ask all at once: the answers of those that answer, and why the others did not; raises any other error."""
    answers: dict[ServerClient, T] = {}
    gone: dict[ServerClient, ServerGoneError] = {}
    if not servers:
        return answers, gone
    with ThreadPoolExecutor(len(servers), thread_name_prefix="server") as pool:
        futures = {server: pool.submit(question, server) for server in servers}
    for server, future in futures.items():
        error = future.exception()
        if isinstance(error, ServerGoneError):
            gone[server] = error
        else:
            answers[server] = future.result()
    return answers, gone


def _message_in(content: bytes) -> str:
    """The reason that a server gives: vLLM puts it into JSON in three ways, and a proxy writes a page."""
    text = content.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except ValueError:
        return text[:500]
    if isinstance(said, dict):
        said = said.get("error", said.get("detail", said))
    if isinstance(said, dict):
        said = said.get("message", said)
    return str(said)
