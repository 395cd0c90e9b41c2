"""Our server: many at once, restarted amid them, requests that are bad, strangers that are slow; nothing lost."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rewards import Question
from rewards.code_tests import CodeTestsVerifier
from rewards.remote import RemoteSandbox, RetryPolicy
from rewards.remote_contract import BadRequestError, read_request
from rewards.sandbox import SandboxUnavailableError
from rewards.sandbox_connections import Connections
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.sandbox_server import SandboxServer
from tests.sandboxed import skip_without_sandbox

ECHO = "print(input())"

skip_without_sandbox()


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    server = SandboxServer(port=0, num_workers=2)
    server.start()
    yield server
    server.stop()


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
