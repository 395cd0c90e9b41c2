"""The client against a server that misbehaves in every way: nothing lost, nothing scored 0 for it."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rewards import Question, Status
from rewards.code_tests import CodeTestsVerifier
from rewards.remote import RemoteSandbox, RetryPolicy
from rewards.remote_breaker import CircuitBreaker, OutageError
from rewards.sandbox_program import RunStatus, SandboxLimits
from rewards.sandbox_server import SandboxServer
from tests.sandboxed import skip_without_sandbox

Reply = tuple[int, object]  # status and body; text and bytes go as they are
FINISHED = {
    "status": "Success",
    "message": "",
    "compile_result": None,
    "run_result": {"status": "Finished", "execution_time": 0.1, "return_code": 0, "stdout": "3\n", "stderr": ""},
}
QUICK = RetryPolicy(num_attempts=4, patience_s=5.0)
ECHO = "print(input())"

skip_without_sandbox()


@contextmanager
def fake_server(answer: Callable[[int, dict[str, Any], Any], Reply]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server whose every answer the test decides; yields its address, and the headers of each request."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({**dict(self.headers), "path": self.path})
            status, content = answer(len(seen), body, self)
            if status == 0:
                return  # the connection closes without a word
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def failed(run: dict[str, Any], **more: Any) -> dict[str, Any]:
    result = {"status": "Finished", "execution_time": 1.0, "return_code": 1, "stdout": "", "stderr": ""}
    return {**FINISHED, "status": "Failed", "run_result": {**result, **run}, **more}


def test_a_request_is_the_contracts() -> None:
    bodies: list[dict[str, Any]] = []

    def answer(number: int, body: dict[str, Any], handler: Any) -> Reply:
        bodies.append(body)
        return 200, FINISHED

    with fake_server(answer) as (url, seen):
        outcome = RemoteSandbox(f"{url}/v1/", language="cpp", token="secret").run("int main(){}", stdin="1 2")
    assert (outcome.status, outcome.stdout, outcome.wall_s) == (RunStatus.FINISHED, "3\n", 0.1)
    assert seen[0]["path"] == "/v1/run_code"
    assert seen[0]["Authorization"] == "Bearer secret"
    assert bodies[0] | {"code": "int main(){}", "language": "cpp", "stdin": "1 2", "files": {}} == bodies[0]
    assert bodies[0]["run_timeout"] == 15.0


@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        (failed({"stderr": "a\nValueError: no\n"}), RunStatus.RUNTIME_ERROR, "ended with 1 ValueError: no"),
        (failed({"status": "TimeLimitExceeded", "return_code": None}), RunStatus.TIME_LIMIT, "time limit"),
        (
            failed({}, run_result=None, compile_result={"status": "Finished", "return_code": 1, "stderr": "x.cpp:1"}),
            RunStatus.RUNTIME_ERROR,
            "does not compile: ended with 1 x.cpp:1",
        ),
        (
            failed({}, run_result=None, compile_result={"status": "TimeLimitExceeded"}),
            RunStatus.TIME_LIMIT,
            "compile",
        ),
        (
            {**FINISHED, "run_result": {"status": "Finished", "return_code": 0, "stdout": "x" * 2000}},
            RunStatus.OUTPUT_LIMIT,
            "1000 bytes",
        ),
    ],
)
def test_what_a_program_did_wrong_is_its_own(reply: object, status: RunStatus, error: str) -> None:
    with fake_server(lambda number, body, handler: (200, reply)) as (url, seen):
        outcome = RemoteSandbox(url, policy=QUICK).run("", limits=SandboxLimits(output_bytes=1000))
    assert outcome.status is status
    assert error in outcome.error
    assert len(seen) == 1


MISBEHAVIOUR: dict[str, Reply] = {
    "500": (500, {"detail": "oops"}),
    "no JSON": (200, b"<html>busy</html>"),
    "half of it": (200, json.dumps(FINISHED).encode()[:40]),
    "another object": (200, {"hello": 1}),
    "a list": (200, []),
    "no result": (200, {"status": "Success"}),
    "a result of another kind": (200, {"status": "Success", "run_result": 3}),
    "output that is no text": (200, {"status": "Success", "run_result": {**FINISHED["run_result"], "stdout": 3}}),
    "its own failure": (200, {"status": "SandboxError", "message": "no room", "run_result": None}),
    "a status unheard of": (200, failed({"status": "Vanished"})),
    "silence": (0, b""),
    "bad gateway": (502, b""),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_server_that_recovers_is_asked_again_under_the_same_id(name: str) -> None:
    def answer(number: int, body: dict[str, Any], handler: Any) -> Reply:
        return MISBEHAVIOUR[name] if number < 3 else (200, FINISHED)

    with fake_server(answer) as (url, seen):
        outcome = RemoteSandbox(url, policy=QUICK).run(ECHO, stdin="3")
    assert outcome.status is RunStatus.FINISHED
    assert len({request["X-Request-Id"] for request in seen}) == 1
    assert len(seen) == 3


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_server_that_never_recovers_is_no_wrong_answer(name: str) -> None:
    policy = RetryPolicy(num_attempts=2, patience_s=0.2)
    with fake_server(lambda number, body, handler: MISBEHAVIOUR[name]) as (url, _):
        verifier = CodeTestsVerifier(extract="whole", remote=url)
        remote = RemoteSandbox(url, policy=policy)
        verifier._runner = remote
        reference = json.dumps({"tests": [{"stdin": "3", "stdout": "3"}]})
        verdict = verifier.verify(ECHO, Question(text="", reference=reference))
        verifier.close()
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert url in verdict.reason


def test_a_server_that_hangs_is_asked_again_and_a_slow_one_is_waited_for() -> None:
    def answer(number: int, body: dict[str, Any], handler: Any) -> Reply:
        time.sleep(2.0 if number < 3 else 0.3)
        return 200, FINISHED

    policy = RetryPolicy(num_attempts=4, patience_s=30.0, compile_s=0.1, margin_s=0.7)
    with fake_server(answer) as (url, seen):
        outcome = RemoteSandbox(url, policy=policy).run(ECHO, limits=SandboxLimits(wall_s=0.2))
    assert outcome.status is RunStatus.FINISHED
    assert len(seen) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_a_request_that_is_refused_is_not_made_again(status: int) -> None:
    with fake_server(lambda number, body, handler: (status, {})) as (url, seen):
        outcome = RemoteSandbox(url, policy=QUICK).run(ECHO)
    assert outcome.status is RunStatus.SANDBOX_FAILURE
    assert str(status) in outcome.error
    assert len(seen) == 1


def test_a_busy_server_is_waited_for_as_it_asks() -> None:
    with fake_server(lambda number, body, handler: (503, {}) if number < 8 else (200, FINISHED)) as (url, seen):
        outcome = RemoteSandbox(url, policy=RetryPolicy(num_attempts=2, patience_s=60.0)).run(ECHO)
    assert outcome.status is RunStatus.FINISHED
    assert len(seen) == 8


def test_nobody_there_is_told_in_time_and_then_at_once() -> None:
    remote = RemoteSandbox("http://127.0.0.1:9", policy=RetryPolicy(patience_s=1.0))
    assert remote.run(ECHO).status is RunStatus.SANDBOX_FAILURE
    started = time.monotonic()
    assert all(remote.run(ECHO).status is RunStatus.SANDBOX_FAILURE for _ in range(5))
    assert time.monotonic() - started < 5.0


def test_a_server_whose_reply_trickles_has_failed_when_its_time_is_up() -> None:
    def answer(number: int, body: dict[str, Any], handler: Any) -> Reply:
        if number > 1:
            return 200, FINISHED
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):  # the client goes away
            while not is_over.wait(0.05):
                handler.wfile.write(b" ")
        return 0, b""

    is_over = threading.Event()
    policy = RetryPolicy(num_attempts=2, patience_s=30.0, compile_s=0.1, margin_s=0.6)
    with fake_server(answer) as (url, seen):
        threading.Timer(20.0, is_over.set).start()
        outcome = RemoteSandbox(url, policy=policy).run(ECHO, limits=SandboxLimits(wall_s=0.2))
        was_cut_off = not is_over.is_set()
        is_over.set()
    assert was_cut_off
    assert (outcome.status, len(seen)) == (RunStatus.FINISHED, 2)


def test_a_refusal_is_read_although_the_server_did_not_read_on() -> None:
    guarded = SandboxServer(port=0, token="right")
    guarded.start()
    outcome = RemoteSandbox(guarded.url, token="wrong").run(f"# {'x' * (8 << 20)}")
    guarded.stop()
    assert "401" in outcome.error


@pytest.mark.parametrize("token", ["a\n", "\u20ac", "a b", "\x00"])
def test_a_token_that_no_header_holds_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match=f"^token: {len(token)} characters"):
        RemoteSandbox("http://127.0.0.1:9", token=token)
    with pytest.raises(ValueError, match=f"^token: {len(token)} characters"):
        SandboxServer(port=0, token=token)


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:80", "ftp://a", "http://", "http://a:port", "http://[::1", "http://a/\u00fc", "http://a/b c"),
        f"http://{'a' * 64}/",
    ],
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="remote = "):
        RemoteSandbox(url)


def test_the_breaker_lets_one_try_while_the_others_wait() -> None:
    now = [0.0]
    breaker = CircuitBreaker(threshold=2, patience_s=10.0, clock=lambda: now[0])
    for _ in range(2):
        assert breaker.wait_for_turn() is False
        breaker.report(is_up=False, is_trial=False)
    assert breaker.is_open
    now[0] = 1.0
    assert breaker.wait_for_turn() is True
    now[0] = 11.0
    with pytest.raises(OutageError, match="away for 11 s"):
        breaker.wait_for_turn()
    breaker.report(is_up=True, is_trial=True)
    assert not breaker.is_open
    assert breaker.wait_for_turn() is False
