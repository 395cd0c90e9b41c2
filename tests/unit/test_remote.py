"""The client against a server that misbehaves in every way, and against ours: nothing lost, nothing scored 0 for it."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rewards import Question, Status
from rewards.code_tests import CodeTestsVerifier
from rewards.remote import RemoteSandbox, RetryPolicy
from rewards.remote_breaker import CircuitBreaker, OutageError
from rewards.remote_contract import BadRequestError, read_request
from rewards.sandbox import Sandbox, SandboxUnavailableError
from rewards.sandbox_connections import Connections
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.sandbox_server import SandboxServer

Reply = tuple[int, object]  # status and body; text and bytes go as they are
FINISHED = {
    "status": "Success",
    "message": "",
    "compile_result": None,
    "run_result": {"status": "Finished", "execution_time": 0.1, "return_code": 0, "stdout": "3\n", "stderr": ""},
}
QUICK = RetryPolicy(num_attempts=4, patience_s=5.0)
ECHO = "print(input())"

try:
    Sandbox().close()
except SandboxUnavailableError as error:
    pytest.skip(f"no sandbox on this machine: {error}", allow_module_level=True)


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


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    server = SandboxServer(port=0, num_workers=2)
    server.start()
    yield server
    server.stop()


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


def run_echoes(url: str, count: int, num_threads: int, language: str = "python") -> list[Outcome]:
    remote = RemoteSandbox(url, language=language, policy=RetryPolicy(patience_s=240.0))
    with ThreadPoolExecutor(num_threads) as threads:
        return list(threads.map(lambda number: remote.run(ECHO, stdin=f"{number}\n"), range(count)))


def test_two_hundred_requests_at_once_all_come_back(server: SandboxServer) -> None:
    outcomes = run_echoes(server.url, 200, 200)
    assert [outcome.stdout for outcome in outcomes] == [f"{number}\n" for number in range(200)]
    assert server.health["running"] == server.health["queued"] == 0


def test_a_queue_that_is_full_loses_nobody() -> None:
    server = SandboxServer(port=0, num_workers=1, max_queue=2)
    server.start()
    outcomes = run_echoes(server.url, 40, 40)
    server.stop()
    assert [outcome.stdout for outcome in outcomes] == [f"{number}\n" for number in range(40)]


def test_a_server_restarted_amid_two_hundred_requests_loses_none(server: SandboxServer) -> None:
    port = int(server.url.rpartition(":")[2])
    outcomes: list[Outcome] = []
    asking = threading.Thread(target=lambda: outcomes.extend(run_echoes(server.url, 200, 50)))
    asking.start()
    time.sleep(0.3)
    server.stop(grace_s=0.0)
    time.sleep(0.5)
    again = SandboxServer(port=port, num_workers=2)
    again.start()
    asking.join()
    again.stop()
    assert [outcome.stdout for outcome in outcomes] == [f"{number}\n" for number in range(200)]


@pytest.mark.parametrize(
    ("code", "status", "error", "line"),
    [
        ("print(1)\n1 / 0", RunStatus.RUNTIME_ERROR, "ZeroDivisionError", 2),
        ("while True: pass", RunStatus.TIME_LIMIT, "", None),
        ("x = 'x' * (1 << 40)", RunStatus.MEMORY_LIMIT, "", None),
    ],
)
def test_our_server_tells_all_that_the_sandbox_does(
    server: SandboxServer, code: str, status: RunStatus, error: str, line: int | None
) -> None:
    outcome = RemoteSandbox(server.url).run(code, limits=SandboxLimits(cpu_s=0.5))
    assert outcome.status is status
    assert error in outcome.error
    assert line is None or outcome.line == line


def test_code_is_tested_through_the_server(server: SandboxServer) -> None:
    verifier = CodeTestsVerifier(extract="whole", remote=server.url)
    checker = "import sys; print(int(open(sys.argv[3]).read().strip() in ('3', 'three')))"
    columns = {"official_tests": [{"input": "1 2", "output": "3"}], "generated_checker": checker}
    question = Question(text="", reference="", columns=columns)
    assert verifier.verify("print('three')", question).score == 1.0
    assert verifier.verify("print('four')", question).score == 0.0
    calls = '{"function": "f", "tests": [{"call": [], "returns": 1}]}'
    assert verifier.verify("def f(): return 1", Question(text="", reference=calls)).score is None
    verifier.close()


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("POST", "/run_code", body, headers)
    response = connection.getresponse()
    reply = json.loads(response.read())
    connection.close()
    return response.status, reply, response.headers


def test_a_request_made_twice_runs_once_and_another_under_its_id_does_not_get_its_reply(server: SandboxServer) -> None:
    draw = json.dumps({"code": "import os; print(os.urandom(8).hex())", "language": "python"}).encode()
    first, again = (post(server.url, draw, **{"X-Request-Id": "one"})[1] for _ in range(2))
    assert first["run_result"]["stdout"] == again["run_result"]["stdout"] != ""
    other = json.dumps({"code": "print(1)", "language": "python"}).encode()
    assert post(server.url, other, **{"X-Request-Id": "one"})[1]["run_result"]["stdout"] == "1\n"
    assert post(server.url, draw, **{"X-Request-Id": "two"})[1]["run_result"] != first["run_result"]


def test_files_are_written_before_the_program_runs(server: SandboxServer) -> None:
    code = "print(open('a.txt').read())\n1 / 0"
    body = json.dumps({"code": code, "language": "python", "files": {"a.txt": "aGVsbG8="}}).encode()
    _, reply, _ = post(server.url, body)
    assert reply["run_result"]["stdout"] == "hello\n"
    assert reply["outcome"]["line"] == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "no JSON"),
        (b"[]", "an object"),
        (b"{}", "code"),
        (b'{"code": 1}', "code"),
        (b'{"code": "", "stdin": 1}', "stdin"),
        (b'{"code": "", "language": "cpp"}', "language = 'cpp'"),
        (b'{"code": "", "run_timeout": 0}', "run_timeout = 0"),
        (b'{"code": "", "run_timeout": 1e9}', "run_timeout"),
        (b'{"code": "", "memory_limit_MB": "much"}', "memory_limit_MB = 'much'"),
        (b'{"code": "", "memory_limit_MB": 1000000000000000000000}', "memory_limit_MB = 10"),
        (b'{"code": "", "memory_limit_MB": true}', "memory_limit_MB = True"),
        (b'{"code": "", "output_limit_bytes": "a"}', "output_limit_bytes = 'a'"),
        (b'{"code": "", "output_limit_bytes": [1]}', "output_limit_bytes"),
        (b'{"code": "", "output_limit_bytes": -1}', "output_limit_bytes = -1"),
        (b'{"code": "", "cpu_limit_s": NaN}', "cpu_limit_s"),
        (b'{"code": "", "fetch_files": ["/etc/passwd"]}', "fetch_files"),
        (b'{"code": "", "files": {"../a": ""}}', "plain name"),
        (b'{"code": "", "files": {"a": "%"}}', "base64"),
        (b'{"code": "", "files": [1]}', "files"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_bad_request_is_told_what_is_bad(body: bytes, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        read_request(body)


def test_a_bad_request_gets_400_and_the_server_goes_on(server: SandboxServer) -> None:
    status, reply, _ = post(server.url, b"{")
    assert (status, "no JSON" in reply["error"]) == (400, True)
    assert RemoteSandbox(server.url).run("print(1)").stdout == "1\n"


def raw(url: str, head: str) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode())
        return connection.makefile("rb").read()


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("9" * 5000, 413),
        (str((64 << 20) + 1), 413),
        ("-1", 400),
        ("1e3", 400),
        ("\u00b2", 400),
        ("", 411),
    ],
)
def test_a_length_that_is_none_is_refused(server: SandboxServer, length: str, status: int) -> None:
    reply = raw(server.url, f"POST /run_code HTTP/1.0\r\nContent-Length: {length}\r\n\r\n")
    assert reply.split()[1] == str(status).encode()
    assert raw(server.url, "POST /run_code HTTP/1.0\r\n\r\n").split()[1] == b"411"


def test_a_request_that_breaks_the_server_is_its_own_and_no_outage(
    server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = server._sandbox.run

    def breaks(code: str, **more: Any) -> Outcome:
        if "break" in code:
            raise RuntimeError("a fault of ours")
        return honest(code, **more)

    monkeypatch.setattr(server._sandbox, "run", breaks)
    remote = RemoteSandbox(server.url, policy=RetryPolicy(num_attempts=3, patience_s=5.0))
    codes = ["break", "print(1)"] * 8
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(remote.run, codes))
    assert {outcome.stdout for outcome in outcomes[1::2]} == {"1\n"}
    assert {outcome.status for outcome in outcomes[::2]} == {RunStatus.SANDBOX_FAILURE}
    assert all("HTTP 500" in outcome.error for outcome in outcomes[::2])
    assert server.health["running"] == 0


def test_a_program_that_dies_of_a_nameless_signal_is_scored_over_http() -> None:
    try:
        server = SandboxServer(port=0, tier=2)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    server.start()
    outcome = RemoteSandbox(server.url).run("import os\nos.kill(os.getpid(), 40)")
    server.stop()
    assert (outcome.status, outcome.error) == (RunStatus.RUNTIME_ERROR, "ended by signal 40")


def is_answered(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def test_strangers_that_take_their_time_keep_nobody_out() -> None:
    server = SandboxServer(port=0, token="right", num_workers=1, max_queue=0)
    server.start()
    host, port = server.url.removeprefix("http://").split(":")
    strangers = [socket.create_connection((host, int(port)), timeout=60) for _ in range(80)]
    time.sleep(1.2)
    for stranger in strangers:
        with contextlib.suppress(OSError):  # hung up on: there are more of them than may be
            stranger.sendall(b"P")
    assert is_answered(server.url)
    assert RemoteSandbox(server.url, token="right").run("print(1)").stdout == "1\n"
    for stranger in strangers:
        stranger.close()
    server.stop()


def test_a_request_has_so_long_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.sandbox_server._HEAD_S", 0.5)
    monkeypatch.setattr("rewards.sandbox_server._BODY_S", 0.5)
    server = SandboxServer(port=0)
    server.start()
    host, port = server.url.removeprefix("http://").split(":")
    for start in (b"P", b"POST /run_code HTTP/1.0\r\nContent-Length: 100000\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(start)
            with contextlib.suppress(OSError):
                for _ in range(600):
                    connection.sendall(b"a")
                    time.sleep(0.05)
                pytest.fail("it may go on for half a minute")
    assert is_answered(server.url)
    server.stop()


def test_a_guest_is_admitted_while_there_is_room_and_a_slow_stranger_makes_some() -> None:
    now = [0.0]
    connections = Connections(max_strangers=2, max_guests=1, clock=lambda: now[0])
    pairs = [socket.socketpair() for _ in range(5)]
    first, second, third, fourth, _ = (ours for ours, _ in pairs)
    assert connections.greet(first)
    assert connections.admit(first)
    assert not connections.admit(first), "once"
    assert connections.greet(second)
    assert not connections.admit(second), "one guest at a time"
    assert connections.greet(third)
    assert not connections.greet(fourth), "nobody has been here for long"
    now[0] = 2.0
    assert connections.greet(fourth)
    assert pairs[1][1].recv(1) == b"", "the oldest stranger was hung up on"
    connections.leave(first)
    assert not connections.admit(second)
    assert connections.admit(third)
    for connection in (second, third, fourth):
        connections.leave(connection)
    connections.wait_until_none(60.0)
    for pair in pairs:
        pair[0].close()
        pair[1].close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_a_host_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ValueError, match="host = .*token"):
        SandboxServer(host=host, port=0)


@pytest.mark.parametrize("args", [{"port": -1}, {"num_workers": 0}, {"max_queue": -1}, {"max_queue": True}])
def test_a_mistaken_argument_of_the_server_is_named(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(args))):
        SandboxServer(**{"port": 0, **args})


def test_with_a_token_nobody_runs_anything_without_it() -> None:
    server = SandboxServer(port=0, token="right")
    server.start()
    outcomes = [RemoteSandbox(server.url, token=token).run("print(1)") for token in (None, "wrong", "right")]
    server.stop()
    server.stop()
    assert [outcome.status for outcome in outcomes] == [
        RunStatus.SANDBOX_FAILURE,
        RunStatus.SANDBOX_FAILURE,
        RunStatus.FINISHED,
    ]
    assert "401" in outcomes[0].error


def test_health_is_told_to_all(server: SandboxServer) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/healthz")
    health = json.loads(connection.getresponse().read())
    connection.close()
    assert (health["status"], health["running"]) == ("ok", 0)
    assert health["tier"] in (1, 2)


def test_serve_says_when_it_is_ready_and_ends_at_a_signal() -> None:
    code = "from rewards.sandbox_server import serve; serve(port=0, on_ready=lambda s: print(s.url, flush=True))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        outcome = RemoteSandbox(url).run("print(1)")
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert outcome.stdout == "1\n"
