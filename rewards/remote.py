"""Run programs on a SandboxFusion server (bytedance/SandboxFusion, ``POST /run_code``), or on ``grpo sandbox serve``.

An outage is never a wrong answer. A request that fails on the way, or that the server fails on, is made again, with
the same id, so that a server that knows ids runs it once; what still fails ends as a sandbox failure, which is
unscored.
"""

import contextlib
import http.client
import io
import json
import random
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from rewards.remote_breaker import CircuitBreaker, OutageError
from rewards.remote_deadline import DeadlineReader, seconds_left
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits

TOKEN_VARIABLE = "GRPO_SANDBOX_TOKEN"
_MAX_REPLY = 64 << 20  # bytes
_MAX_ERROR = 300
_PIECE = 1 << 16  # bytes sent at once
_TOKEN = re.compile(r"[!-~]+")
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
_DEFAULT_LIMITS = SandboxLimits()


class RemoteError(Exception):
    """One attempt failed. ``is_outage``: whether that says something about the server rather than the request."""

    def __init__(self, reason: str, *, is_outage: bool, is_final: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.is_outage = is_outage
        self.is_final = is_final
        self.wait_s = wait_s  # what a busy server asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to give a request up.

    Attributes:
        num_attempts: of one request that the server answers wrongly or not at all, while it answers others.
        patience_s: how long a request waits for a server that is busy or away. Once it has been away that long,
            requests fail at once, until one of those sent to try it comes back.
        compile_s: what the server may take to compile.
        margin_s: for its queue and the way, beyond what compiling and running may take; an attempt that takes longer
            has failed.
    """

    num_attempts: int = 6
    patience_s: float = 60.0
    compile_s: float = 30.0
    margin_s: float = 30.0


class RemoteSandbox:
    """As ``Sandbox.run``, elsewhere. Callable from many threads; each request has a connection of its own."""

    def __init__(
        self,
        url: str,
        *,
        language: str = "python",
        token: str | None = None,
        policy: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        """``url``: of the server, with the path before ``/run_code`` if there is one.

        Raises:
            ValueError: ``url`` is no address of http or https, or no header can hold ``token``.
        """
        check_token(token)
        scheme, host, port, path = _address(url)
        self.url = url
        self.language = language
        self._token = token
        self._policy = policy or RetryPolicy()
        self._breaker = breaker or CircuitBreaker(patience_s=self._policy.patience_s)
        self._path = path.rstrip("/") + "/run_code"
        self._host, self._port = host, port
        self._connect = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection

    def with_language(self, language: str) -> "RemoteSandbox":
        """The same server, and the same knowledge of whether it is there, for programs in another language."""
        return RemoteSandbox(self.url, language=language, token=self._token, policy=self._policy, breaker=self._breaker)

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits = _DEFAULT_LIMITS) -> Outcome:
        """Run a program. Never raises for what the server does: a failure is an outcome."""
        request = {
            "code": code,
            "language": self.language,
            "stdin": stdin,
            "compile_timeout": self._policy.compile_s,
            "run_timeout": limits.wall_s,
            "memory_limit_MB": limits.memory_mb,
            "files": {},
            "fetch_files": [],
            "cpu_limit_s": limits.cpu_s,  # of our own server; others do not look at it
            "output_limit_bytes": limits.output_bytes,
        }
        body = json.dumps(request).encode()
        wait_s = self._policy.compile_s + limits.wall_s + self._policy.margin_s
        try:
            return self._persist(lambda request_id: self._attempt(body, request_id, wait_s, limits))
        except (RemoteError, OutageError) as error:
            reason = f"{self.url}: {error}"[:_MAX_ERROR]
            return Outcome(status=RunStatus.SANDBOX_FAILURE, error=reason)

    def _persist(self, attempt: Callable[[str], Outcome]) -> Outcome:
        """Attempts with one id, with growing pauses, until one succeeds or there is no sense in another."""
        request_id, started, num_failed = uuid.uuid4().hex, time.monotonic(), 0
        while True:
            is_trial, is_up = self._breaker.wait_for_turn(), False
            try:
                outcome = attempt(request_id)
                is_up = True
                return outcome
            except RemoteError as error:
                is_up, failed = not error.is_outage, error
            finally:
                self._breaker.report(is_up=is_up, is_trial=is_trial)
            num_failed += failed.wait_s is None
            is_late = failed.wait_s is not None and time.monotonic() - started > self._policy.patience_s
            # An outage is the breaker's to give up: a server that restarts loses nobody.
            is_spent = num_failed >= self._policy.num_attempts and not self._breaker.is_open
            if failed.is_final or is_late or is_spent or self._breaker.is_given_up:
                raise failed
            if not self._breaker.is_open:  # which sets the pace itself
                time.sleep(_pause(num_failed, failed.wait_s))

    def _send(self, connection: http.client.HTTPConnection, body: bytes, request_id: str, deadline: float) -> None:
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id, "Connection": "close"}
        headers["Content-Length"] = str(len(body))
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection.connect()
        # A server that refuses need not read on: its reply may be there nevertheless.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", self._path, _pieces(connection, body, deadline), headers)

    def _attempt(self, body: bytes, request_id: str, wait_s: float, limits: SandboxLimits) -> Outcome:
        deadline = time.monotonic() + wait_s
        connection = self._connect(self._host, self._port, timeout=wait_s)
        response_class: Any = partial(_Response, deadline=deadline)
        connection.response_class = response_class
        try:
            self._send(connection, body, request_id, deadline)
            with connection.getresponse() as response:
                reply = response.read(_MAX_REPLY + 1)
        except (OSError, http.client.HTTPException) as error:
            raise RemoteError(f"{type(error).__name__}: {error}", is_outage=True) from error
        finally:
            connection.close()
        _check_status(response)
        if len(reply) > _MAX_REPLY:
            raise RemoteError(f"a reply of more than {_MAX_REPLY} bytes", is_outage=False, is_final=True)
        return _outcome(reply, limits)


class _Response(http.client.HTTPResponse):
    """A reply that is read until a deadline."""

    def __init__(self, connection: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(DeadlineReader(connection, deadline))


def check_token(token: str | None) -> None:
    """Raise a ValueError for a token that no header can hold; the message does not repeat it."""
    if token and _TOKEN.fullmatch(token) is None:
        raise ValueError(
            f"token: {len(token)} characters, not all of them printable ASCII without spaces. "
            f"A line's end often comes along with a token that is read from a file: see {TOKEN_VARIABLE}"
        )


def _address(url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        host, port = "", None
    is_plain = _TOKEN.fullmatch(url) is not None
    if not host or not is_plain or parts.scheme not in ("http", "https"):
        raise ValueError(f"remote = {url!r}: an address such as http://127.0.0.1:8080 is needed")
    return parts.scheme, host, port, parts.path


def _pieces(connection: http.client.HTTPConnection, body: bytes, deadline: float) -> Iterator[bytes]:
    for start in range(0, len(body), _PIECE):
        connection.sock.settimeout(seconds_left(deadline))
        yield body[start : start + _PIECE]


def _check_status(response: http.client.HTTPResponse) -> None:
    reason = f"HTTP {response.status} {response.reason}"
    if response.status in (429, 503):
        raise RemoteError(reason, is_outage=False, wait_s=_retry_after(response))
    if response.status >= 500:  # 502 and 504 are a gateway's, whose server is away
        raise RemoteError(reason, is_outage=response.status in (502, 504))
    if response.status != 200:
        raise RemoteError(reason, is_outage=False, is_final=True)


def _retry_after(response: http.client.HTTPResponse) -> float:
    asked = response.getheader("Retry-After") or ""
    return min(float(asked), _LONGEST_WAIT_S) if asked.isdecimal() else 1.0


def _pause(num_failed: int, asked_s: float | None) -> float:
    """Full jitter, so that those who failed together do not come back together."""
    if asked_s is not None:
        return asked_s * random.uniform(0.5, 1.5)
    return random.uniform(0.0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(num_failed, 16)))


def _outcome(reply: bytes, limits: SandboxLimits) -> Outcome:
    """What the reply says of the program.

    Raises:
        RemoteError: it is no reply of this contract, or says that the server failed.
    """
    try:
        read = json.loads(reply)
        status = read["status"]
        if status == "SandboxError":
            raise RemoteError(f"the server says SandboxError: {read.get('message', '')}", is_outage=False)
        compiled, ran = read.get("compile_result"), read.get("run_result")
        if status not in ("Success", "Failed") or (ran is None and compiled is None):
            raise RemoteError(f"a reply with status {status!r} and no result", is_outage=False)
        if compiled is not None and not _is_good(compiled):
            return _ended(compiled, "the program does not compile")
        if ran is None:
            raise RemoteError("a reply without run_result", is_outage=False)
        return _of_run(read, ran, limits)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RemoteError(f"a reply that is not of the contract ({type(error).__name__})", is_outage=False) from error


def _of_run(read: Mapping[str, Any], ran: Mapping[str, Any], limits: SandboxLimits) -> Outcome:
    stdout = _text(ran, "stdout")
    wall_s = float(ran.get("execution_time") or 0.0)
    own = read.get("outcome")
    if isinstance(own, Mapping):  # our own server, which knows more than the contract has room for
        line, error = own.get("line"), str(own.get("error", ""))
        used = {name: float(own.get(name) or 0.0) for name in ("cpu_s", "peak_memory_mb")}
        status = RunStatus(own["status"])
        if status is RunStatus.SANDBOX_FAILURE:
            raise RemoteError(f"the server's sandbox failed: {error}", is_outage=False)
        return Outcome(status=status, stdout=stdout, error=error, line=line, wall_s=wall_s, **used)
    if len(stdout.encode(errors="replace")) > limits.output_bytes:
        return Outcome(status=RunStatus.OUTPUT_LIMIT, error=f"more than {limits.output_bytes} bytes", wall_s=wall_s)
    if _is_good(ran):
        return Outcome(status=RunStatus.FINISHED, stdout=stdout, wall_s=wall_s)
    return _ended(ran, "the program")


def _is_good(result: Mapping[str, Any]) -> bool:
    return bool(result["status"] == "Finished" and result.get("return_code") in (0, None))


def _ended(result: Mapping[str, Any], what: str) -> Outcome:
    """A compiler or a program that did not end well; its last words are the best reason there is."""
    if result["status"] == "TimeLimitExceeded":
        return Outcome(status=RunStatus.TIME_LIMIT, stdout=_text(result, "stdout"), error=f"{what}: time limit")
    if result["status"] not in ("Finished", "Error"):
        raise RemoteError(f"a result with status {result['status']!r}", is_outage=False)
    last = (_text(result, "stderr").strip().splitlines() or [""])[-1]
    error = f"{what}: ended with {result.get('return_code')} {last}"[:_MAX_ERROR]
    return Outcome(status=RunStatus.RUNTIME_ERROR, stdout=_text(result, "stdout"), error=error)


def _text(result: Mapping[str, Any], name: str) -> str:
    value = result.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value or ""
