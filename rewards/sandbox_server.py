"""Our sandbox behind SandboxFusion's contract: ``POST /run_code`` for Python, ``GET /healthz``. ``grpo sandbox serve``.

Bound to this machine unless a token guards it. Work is bounded everywhere: as many programs at a time as there are
workers, as many waiting as the queue holds (beyond: 503 with ``Retry-After``), as many connections as those need and
some more, as many again of those that have not shown a token yet, so many bytes of a request, and so many seconds to
send it.
"""

import hmac
import io
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rewards.arguments import check_whole
from rewards.remote import TOKEN_VARIABLE, check_token
from rewards.remote_contract import BadRequestError
from rewards.remote_deadline import DeadlineReader
from rewards.remote_queue import BusyError, RunQueue
from rewards.sandbox import Sandbox
from rewards.sandbox_connections import Connections

MAX_BODY = 64 << 20  # bytes of a request
# Seconds that a client has in all, however it sends: for its request line and headers, for the rest of its request,
# and to take its reply.
_HEAD_S, _BODY_S, _TAKE_S = 10.0, 60.0, 60.0
_NUM_SPARE = 64  # connections beyond those that run or wait: to be told that the queue is full, or for health
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NUMBER = re.compile(r"[0-9]+")
_MAX_DIGITS = 18  # Python refuses to read a number of thousands
_log = logging.getLogger(__name__)


class SandboxServer:
    """The server, to be started and stopped; ``serve`` does both for a command line."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        token: str | None = None,
        num_workers: int = 1,
        max_queue: int = 256,
        tier: int | None = None,
    ) -> None:
        """Binds the port; ``port`` 0 takes a free one.

        Raises:
            ValueError: an argument is out of range, or ``host`` is open to others and there is no token.
            SandboxUnavailableError: this machine has no way to confine a program.
            OSError: the port is taken.
        """
        check_token(token)
        check_whole("port", port, 0, 65535)
        check_whole("num_workers", num_workers, 1, 1024)
        check_whole("max_queue", max_queue, 0, 1 << 20)
        if not token and not _is_loopback(host):
            raise ValueError(
                f"host = {host!r}: others could run programs here. Give a token (the variable {TOKEN_VARIABLE}), "
                "or bind 127.0.0.1"
            )
        self._sandbox = Sandbox(num_workers=num_workers, tier=tier)
        queue = RunQueue(self._sandbox, num_workers, max_queue)
        try:
            self._http = _Http((host, port), queue, token, num_workers + max_queue + _NUM_SPARE)
        except OSError:
            self._sandbox.close()
            raise
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._lock = threading.Lock()
        self._is_started = self._is_stopped = False

    @property
    def url(self) -> str:
        host, port = self._http.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}"

    @property
    def health(self) -> dict[str, object]:
        return self._http.queue.health()

    def start(self) -> None:
        """Answer requests, in threads of its own."""
        with self._lock:
            self._is_started = True
            self._thread.start()

    def stop(self, *, grace_s: float = 30.0) -> None:
        """Take no more connections, let those that are there end, for at most ``grace_s``; idempotent."""
        with self._lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            if self._is_started:
                self._http.shutdown()
            self._http.socket.close()
            self._http.connections.wait_until_none(grace_s)
            self._sandbox.close()
            self._http.server_close()


def serve(
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    token: str | None = None,
    num_workers: int = 1,
    max_queue: int = 256,
    tier: int | None = None,
    on_ready: Callable[[SandboxServer], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then end what runs and return. To be called from the main thread.

    ``token``: absent: that of the environment (``GRPO_SANDBOX_TOKEN``). ``on_ready`` is told when requests are taken.

    Raises:
        ValueError: an argument is out of range, or ``host`` is open to others and there is no token.
        SandboxUnavailableError: this machine has no way to confine a program.
        OSError: the port is taken.
    """
    token = token or os.environ.get(TOKEN_VARIABLE) or None
    server = SandboxServer(host=host, port=port, token=token, num_workers=num_workers, max_queue=max_queue, tier=tier)
    ended = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in signals}
    try:
        server.start()
        if on_ready is not None:
            on_ready(server)
        ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        server.stop()


class _Http(ThreadingHTTPServer):
    """A thread per connection, and a bound on connections."""

    daemon_threads = True
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], queue: RunQueue, token: str | None, max_connections: int) -> None:
        self.queue = queue
        self.token = token
        self.connections = Connections(max_strangers=max_connections, max_guests=max_connections)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.connections.greet(request):
            _refuse(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.connections.leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        _log.debug("a connection from %s ended badly", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection: an idle one would hold a thread."""

    server: _Http
    server_version = "grpo-sandbox"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = DeadlineReader(self.connection, time.monotonic() + _HEAD_S)
        self.rfile = io.BufferedReader(self._incoming)

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._send(200, self.server.queue.health())
        else:
            self._send(404, {"error": "POST /run_code or GET /healthz"})

    def do_POST(self) -> None:
        if self.path != "/run_code":
            self._send(404, {"error": "POST /run_code or GET /healthz"})
        elif not self._is_allowed():
            self._send(401, {"error": "a token is needed: Authorization: Bearer …"}, {"WWW-Authenticate": "Bearer"})
        else:
            self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def _serve(self) -> None:
        """Read on, for longer than a stranger may take, and answer."""
        is_admitted = self.server.connections.admit(self.connection)
        if is_admitted:
            self._incoming.deadline = time.monotonic() + _BODY_S
        body = self._read_body()  # in any case: hung up on amid its request, a client may not see the reply
        if body is not None and is_admitted:
            self._answer(body)
        elif body is not None:
            self._send_busy()

    def _answer(self, body: bytes) -> None:
        try:
            reply = self.server.queue.reply(body, self.headers.get("X-Request-Id"))
        except BadRequestError as error:
            self._send(400, {"error": str(error)})
        except BusyError:
            self._send_busy()
        except Exception:  # whatever else: without an answer this request would pass for an outage, of all the others
            _log.exception("a request that cannot be answered")
            self._send(500, {"error": "the server failed at this request; its log says how"})
        else:
            self._send(200, reply)

    def _send_busy(self) -> None:
        self._send(503, {"error": "the queue is full"}, {"Retry-After": "1"})

    def _is_allowed(self) -> bool:
        if not self.server.token:
            return True
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode())

    def _read_body(self) -> bytes | None:
        """None where it is missing, too long, or cut short; who sent it is told, if still there."""
        length = self.headers.get("Content-Length", "").strip()
        if _NUMBER.fullmatch(length) is None:
            self._send(400 if length else 411, {"error": "Content-Length: a number of bytes is needed"})
            return None
        if len(length) > _MAX_DIGITS or int(length) > MAX_BODY:
            self._send(413, {"error": f"at most {MAX_BODY} bytes"})
            return None
        body = self.rfile.read(int(length))
        return body if len(body) == int(length) else None

    def _send(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        self.connection.settimeout(_TAKE_S)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _refuse(request: socket.socket) -> None:
    """Without a thread: there are as many as there may be."""
    try:
        request.settimeout(0.1)
        request.sendall(_BUSY)
    except OSError:
        pass
    finally:
        request.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
