"""What goes to servers and comes back, and what is said of servers that fail; over real sockets, without vLLM."""

import json
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch

from grpo.buckets import buckets
from grpo.engine.protocol import Request, Sampling
from grpo.engine.replica import Question
from grpo.engine.server_client import Hangup, RefusedError, ServerClient, ServerGoneError, Settings, ask_each
from grpo.engine.server_command import NCCL, SHARED_MEMORY, serve_command
from grpo.engine.server_engine import ServerEngine
from grpo.engine.server_fanout import Fanout
from grpo.engine.server_pool import Expected, ServerPool
from grpo.engine.server_weights import backend_for
from grpo.engine.server_wire import read_answer, read_score, sample_body, score_body
from grpo.errors import EngineError
from grpo.recipe import Rollout
from tests.factories import make_prompt

ROLLOUT = Rollout(problems_per_step=1, num_generations=2, max_completion_length=8, max_num_seqs=4)
SETTINGS = Settings(
    model="m",
    vllm_version="0.32.0",
    dtype="float32",
    max_model_len=64,
    max_num_seqs=4,
    logprobs_mode="processed_logprobs",
    backend=SHARED_MEMORY,
    world_size=1,
)
EXPECTED = Expected(model="m", dtype="float32", max_model_len=64, backend=SHARED_MEMORY)
TOKENS = [7, 9, 2]
LOGPROBS = [-0.1, -2.3456789, 0.0]

Reply = tuple[int, bytes]


def command(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "model": "m",
        "rollout": ROLLOUT,
        "dtype": "float32",
        "max_model_len": 64,
        "on_gpu": False,
        "seed": 3,
    }
    return serve_command(**(arguments | changes))


def question(**changes: Any) -> Question:
    request = Request(
        prompt=make_prompt(4, token_ids=(3, 4, 5)),
        sample_index=0,
        seed=17,
        sampling=Sampling(max_tokens=8, temperature=0.7, top_p=0.9, top_k=5, stop_token_ids=(2,), **changes),
    )
    return Question.of(6, request)


def response(**changes: Any) -> dict[str, Any]:
    choice = {
        "token_ids": TOKENS,
        "finish_reason": "stop",
        "logprobs": {"content": [{"logprob": logprob} for logprob in LOGPROBS]},
        "weight_versions": [{"version": "run:3", "start": 0, "end": 3}],
    }
    return {"choices": [choice | changes]}


def read(answered: dict[str, Any]) -> Any:
    return read_answer(json.loads(json.dumps(answered)), question(), label="run:3", version=3, busy_s=0.5)


class Site:
    """A real HTTP server whose replies are given by path: status and content, or what makes them."""

    def __init__(self, replies: dict[str, Reply | Callable[[], Reply]]) -> None:
        self.asked: list[tuple[str, Any]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                site.asked.append((self.path, json.loads(body) if body else None))
                reply = replies.get(self.path, (404, b'{"detail": "Not Found"}'))
                status, content = reply() if callable(reply) else reply
                if not status:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.client = ServerClient(self.address, command="START IT SO", patience_s=5.0)


@contextmanager
def serving(replies: dict[str, Reply | Callable[[], Reply]]) -> Iterator[Site]:
    site = Site(replies)
    thread = threading.Thread(target=site.http.serve_forever, args=(0.01,))
    thread.start()
    yield site
    site.http.shutdown()
    thread.join()
    site.http.server_close()


def healthy(**settings: Any) -> dict[str, Reply | Callable[[], Reply]]:
    """The replies of a server that was started with these settings."""
    told = {name: getattr(SETTINGS, name) for name in SETTINGS.__slots__ if name not in ("model", "vllm_version")}
    return {
        "/health": (200, b""),
        "/v1/models": (200, json.dumps({"data": [{"root": settings.pop("model", "m")}]}).encode()),
        "/version": (200, b'{"version": "0.32.0"}'),
        "/weight_info": (200, b'{"weight_version": "default"}'),
        "/collective_rpc": (200, json.dumps({"results": [told | settings]}).encode()),
    }


def closed_address() -> str:
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# the wire


def test_a_request_says_all_that_makes_an_answer() -> None:
    body = sample_body(question(stop=("\n",)), "run-1")
    assert (body["request_id"], body["token_ids"]) == ("run-1", [3, 4, 5])
    parameters = body["sampling_params"]
    wanted = {"max_tokens": 8, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": 17, "stop_token_ids": [2]}
    assert wanted.items() <= parameters.items()
    assert parameters["stop"] == ["\n"]
    assert (parameters["ignore_eos"], parameters["logprobs"], parameters["detokenize"]) == (True, 0, True)
    assert sample_body(question(), "run-2")["sampling_params"]["detokenize"] is False


def test_an_answer_keeps_every_bit_of_its_log_probabilities() -> None:
    exact = np.float32([-0.1, -1e-7, -17.123456]).astype(np.float64).tolist()
    answer = read(response(logprobs={"content": [{"logprob": logprob} for logprob in exact]}))
    np.testing.assert_array_equal(answer.behavior_logprobs, np.float32([-0.1, -1e-7, -17.123456]))
    np.testing.assert_array_equal(answer.token_ids, TOKENS)
    assert (answer.key, answer.version, answer.finish_reason, answer.busy_s) == (6, 3, "stop", 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_versions": [{"version": "other:4", "start": 0, "end": 3}]}, "p/4#0 was sampled by .*other:4.*run:3"),
        (
            {"weight_versions": [{"version": "run:2", "start": 0}, {"version": "run:3", "start": 1}]},
            "another run publishing",
        ),
        ({"weight_versions": None}, r"sampled by weights \[\]"),
        ({"finish_reason": "abort"}, "ended an answer to p/4#0 with 'abort'"),
        ({"logprobs": {"content": [{"logprob": -1.0}] * 2}}, "no log-probability for some token of an answer to p/4#0"),
        ({"logprobs": {"content": [{"logprob": -9999.0}] * 3}}, "no log-probability"),
    ],
)
def test_an_answer_that_cannot_be_learned_from_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        read(response(**changes))


def test_a_score_is_of_the_text_s_own_tokens() -> None:
    assert score_body([3, 9], "run-1")["sampling_params"]["prompt_logprobs"] == 0
    positions = [None, {"9": {"logprob": -1.5}}, {"2": {"logprob": -0.25}, "8": {"logprob": -3.0}}]
    np.testing.assert_array_equal(read_score({"prompt_logprobs": positions}, [3, 9, 8]), np.float32([-1.5, -3.0]))


# one server


@pytest.mark.parametrize(
    "content",
    [b'{"error": {"message": "no such tensor"}}', b'{"detail": "no such tensor"}', b'{"error": "no such tensor"}'],
)
def test_a_refusal_names_address_status_and_reason(content: bytes) -> None:
    with serving({"/x": (400, content)}) as site, pytest.raises(RefusedError) as caught:
        site.client.ask("POST", "/x", {"a": 1})
    assert str(caught.value) == f"{site.client.name} answers POST /x with 400 Bad Request: no such tensor"
    assert site.asked == [("/x", {"a": 1})]


def test_an_error_of_a_living_engine_is_a_refusal_and_of_a_dead_one_the_server_s_end() -> None:
    failing: dict[str, Reply | Callable[[], Reply]] = {"/x": (500, b'{"error": "out of memory"}')}
    with serving(failing | {"/health": (200, b"")}) as site, pytest.raises(RefusedError, match="500 .*out of memory"):
        site.client.ask("POST", "/x")
    with serving(failing | {"/health": (503, b"")}) as site, pytest.raises(ServerGoneError, match="engine has died"):
        site.client.ask("POST", "/x")


def test_a_server_that_does_not_listen_or_hangs_up_or_says_nothing_is_gone() -> None:
    client = ServerClient(closed_address(), command="", patience_s=5.0)
    with pytest.raises(ServerGoneError, match=rf"{client.name} does not answer: .*refused"):
        client.ask("GET", "/x")
    assert not client.is_healthy()
    with serving({"/x": (0, b"")}) as site, pytest.raises(ServerGoneError, match=site.client.name):
        site.client.ask("GET", "/x")
    silent = threading.Event()
    with serving({"/x": lambda: (200, b"" if silent.wait(30) else b"")}) as site:
        hasty = ServerClient(site.address, command="", patience_s=0.1)
        with pytest.raises(ServerGoneError, match="timed out"):
            hasty.ask("GET", "/x")
        silent.set()


def test_an_answer_that_is_not_wanted_any_more_is_not_waited_for() -> None:
    arrived, go = threading.Event(), threading.Event()

    def slow() -> Reply:
        arrived.set()
        go.wait(30)
        return 200, b"{}"

    hangup = Hangup()
    with serving({"/x": slow}) as site:
        asking = threading.Thread(target=lambda: arrived.wait(30) and hangup.close())
        asking.start()
        with pytest.raises(ServerGoneError):
            site.client.ask("GET", "/x", hangup=hangup)
        asking.join()
        go.set()
        with pytest.raises(ServerGoneError, match="not wanted any more"):
            site.client.ask("GET", "/x", hangup=hangup)
        assert [path for path, _ in site.asked] == ["/x"]


def test_asking_each_tells_those_that_are_gone_from_those_that_refuse() -> None:
    with serving({"/x": (200, b"5")}) as site, serving({}) as refusing:
        gone = ServerClient(closed_address(), command="", patience_s=5.0)
        answers, deaths = ask_each([gone, site.client], lambda server: server.ask("GET", "/x"))
        assert answers == {site.client: 5}
        assert list(deaths) == [gone]
        with pytest.raises(RefusedError, match=f"{refusing.client.name} .*404"):
            ask_each([site.client, refusing.client], lambda server: server.ask("GET", "/x"))


def test_an_update_that_was_left_unfinished_is_finished_before_the_next() -> None:
    replies = iter([(500, b'{"error": "called while a weight update is already active"}'), (200, b"{}")])
    site_replies: dict[str, Reply | Callable[[], Reply]] = {
        "/health": (200, b""),
        "/reset_prefix_cache": (200, b'{"success": true}'),
        "/start_weight_update": lambda: next(replies),
        "/finish_weight_update": (200, b"{}"),
    }
    with serving(site_replies) as site:
        site.client.start_update()
    orders = [path for path, _ in site.asked if path != "/health"]
    assert orders == ["/reset_prefix_cache", "/start_weight_update", "/finish_weight_update", "/start_weight_update"]


def test_the_prefix_cache_is_emptied_until_nothing_holds_it() -> None:
    replies = iter([(200, b'{"success": false}'), (200, b'{"success": true}')])
    with serving({"/reset_prefix_cache": lambda: next(replies)}) as site:
        site.client.reset_prefix_cache()
        assert len(site.asked) == 2
    with serving({"/reset_prefix_cache": (200, b'{"success": false}')}) as site:
        hasty = ServerClient(site.address, command="", patience_s=0.1)
        with pytest.raises(EngineError, match="prefix cache stays in use"):
            hasty.reset_prefix_cache()


@pytest.mark.parametrize("address", ["10.0.0.5:8000", "ftp://host", "http://"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(EngineError, match="no address of a server"):
        ServerClient(address, command="", patience_s=1.0)


# who takes part


def test_a_server_as_expected_has_no_mistakes_and_each_other_setting_is_one() -> None:
    assert EXPECTED.mistakes(SETTINGS) == []
    assert EXPECTED.mistakes(replace(SETTINGS, max_model_len=128)) == []
    wrong = replace(
        SETTINGS,
        model="n",
        vllm_version="0.31.2",
        dtype="bfloat16",
        max_model_len=32,
        logprobs_mode="raw_logprobs",
        backend="nccl",
    )
    found = EXPECTED.mistakes(wrong)
    for words in ("model 'n'", "'bfloat16' instead of 'float32'", "len 32 instead of at least 64", "vLLM 0.31.2"):
        assert any(words in mistake for mistake in found)
    assert len(found) == 6


def test_a_server_that_was_started_otherwise_is_refused_with_the_command_that_is_right() -> None:
    with serving(healthy(dtype="bfloat16")) as site:
        pool = ServerPool([site.client], EXPECTED, pytest.fail)
        with pytest.raises(EngineError, match=f"(?s){site.client.name} has --dtype 'bfloat16'.*START IT SO"):
            pool.start(1.0)


def test_a_server_without_routes_for_weights_is_refused_with_the_command_that_is_right() -> None:
    replies = healthy()
    del replies["/collective_rpc"]
    with serving(replies) as site:
        pool = ServerPool([site.client], EXPECTED, pytest.fail)
        with pytest.raises(EngineError, match="(?s)/collective_rpc with 404 .*START IT SO"):
            pool.start(1.0)


def test_a_server_that_is_not_there_is_waited_for_and_then_named() -> None:
    reports: list[str] = []
    address = closed_address()
    pool = ServerPool([ServerClient(address, command="START IT SO", patience_s=1.0)], EXPECTED, reports.append)
    with pytest.raises(EngineError, match=f"(?s){address} does not answer.*START IT SO"):
        pool.start(0.1)
    (report,) = reports
    assert report.startswith(f"waiting up to 0 s for {address}. Start it with:\nSTART IT SO")


def test_a_server_with_an_earlier_run_s_weights_takes_part_from_the_first_publish_on() -> None:
    with serving(healthy() | {"/weight_info": (200, b'{"weight_version": "other:7"}')}) as site:
        pool = ServerPool([site.client], EXPECTED, pytest.fail)
        pool.start(1.0)
        assert pool.present == []
        with pytest.raises(EngineError, match="(?s)another run's.*START IT SO"):
            pool.some_present()
        assert pool.readmit() == 0
        assert pool.present == [site.client]


def test_a_lost_server_is_out_until_it_answers_again_as_it_was_started() -> None:
    reports: list[str] = []
    replies = healthy()
    with serving(replies) as site, serving(healthy()) as other:
        pool = ServerPool([site.client, other.client], EXPECTED, reports.append)
        pool.start(1.0)
        pool.take_out(site.client, ServerGoneError("the cable was cut"))
        pool.take_out(site.client, ServerGoneError("and cut again"))
        assert pool.present == [other.client]
        (report,) = reports
        assert "the cable was cut" in report
        assert "START IT SO" in report
        replies |= healthy(dtype="bfloat16")
        assert pool.readmit() == 0
        assert "stays out" in reports[1]
        replies |= healthy()
        assert pool.readmit() == 1
        assert pool.readmit() == 0
        assert pool.present == [site.client, other.client]


# several servers as one receiver


def test_buckets_keep_every_tensor_in_its_order_within_the_size() -> None:
    sizes = [3, 4, 20, 1, 1, 5, 6]
    tensors = [(f"t{place}", torch.zeros(size)) for place, size in enumerate(sizes)]
    packed = list(buckets(iter(tensors), 10 * 4))
    assert [[tensor.numel() for _, tensor in bucket] for bucket in packed] == [[3, 4], [20], [1, 1, 5], [6]]
    assert [name for bucket in packed for name, _ in bucket] == [name for name, _ in tensors]
    assert list(buckets(iter(()), 10)) == []


def test_each_server_joins_with_ranks_of_its_own() -> None:
    joins: dict[str, Reply | Callable[[], Reply]] = {"/init_weight_transfer_engine": (200, b"{}")}
    with serving(joins) as first, serving(joins) as second, serving(joins) as third:
        sites = (first, second, third)
        Fanout([site.client for site in sites], [2, 1, 4]).init_weight_transfer_engine({"port": 5, "rank_offset": 1})
        infos = [site.asked[0][1]["init_info"] for site in sites]
    assert [info["rank_offset"] for info in infos] == [1, 3, 4]
    assert {info["port"] for info in infos} == {5}


def test_a_server_that_fails_is_known_while_another_still_waits_for_it() -> None:
    released = threading.Event()
    waiting: dict[str, Reply | Callable[[], Reply]] = {
        "/update_weights": lambda: (200, b"{}" if released.wait(30) else b"")
    }
    gone = ServerClient(closed_address(), command="", patience_s=5.0)
    with serving(waiting) as site:
        fanout = Fanout([site.client, gone], [1, 1])
        errors: list[EngineError] = []

        def update() -> None:
            try:
                fanout.update_weights({"names": []})
            except EngineError as error:
                errors.append(error)

        sending = threading.Thread(target=update)
        sending.start()
        while fanout.failure is None:
            sending.join(0.01)
        assert sending.is_alive()
        assert gone.name in str(fanout.failure)
        released.set()
        sending.join()
    assert errors == [fanout.failure]


# the engine as a whole


def test_the_engine_refuses_a_server_of_another_model_before_anything_is_sampled() -> None:
    with serving(healthy(model="another")) as site, pytest.raises(EngineError, match="model 'another' instead of 'm'"):
        ServerEngine(
            [site.address],
            model="m",
            rollout=ROLLOUT,
            dtype="float32",
            max_model_len=64,
            decode=str,
            on_gpu=False,
            seed=0,
            report=pytest.fail,
        )


# the command


def test_the_command_has_what_the_checks_ask_for() -> None:
    words = shlex.split(command(address="http://10.0.0.5:8123"))
    options = dict(zip(words, words[1:], strict=False))
    assert words[:2] == ["env", "VLLM_SERVER_DEV_MODE=1"]
    assert (options["--host"], options["--port"]) == ("10.0.0.5", "8123")
    assert (options["--dtype"], options["--max-model-len"], options["--max-num-seqs"]) == ("float32", "64", "4")
    assert options["--logprobs-mode"] == "processed_logprobs"
    assert json.loads(options["--weight-transfer-config"]) == {"backend": SHARED_MEMORY}
    assert {"--enable-scale-out", "--enforce-eager", "--no-enable-chunked-prefill"} <= set(words)


def test_the_command_for_a_gpu_is_vllm_serve_itself() -> None:
    rollout = ROLLOUT.model_copy(update={"compile": True, "tensor_parallel": 2})
    words = shlex.split(command(on_gpu=True, backend=NCCL, rollout=rollout, model="folder with blanks/m"))
    assert words[2:5] == ["vllm", "serve", "folder with blanks/m"]
    options = dict(zip(words, words[1:], strict=False))
    assert (options["--tensor-parallel-size"], options["--gpu-memory-utilization"]) == ("2", "0.4")
    assert not {"--enforce-eager", "--no-enable-chunked-prefill", "--kv-cache-memory-bytes"} & set(words)


def test_weights_go_through_memory_on_this_host_and_by_nccl_to_others() -> None:
    here = ["http://127.0.0.1:8000", "http://localhost:8001"]
    there = "http://192.0.2.1:8000"  # an address for examples, which no host has
    assert backend_for(here, on_gpu=False) == SHARED_MEMORY
    assert backend_for([*here, there], on_gpu=True) == NCCL
    with pytest.raises(EngineError, match=f"{there} is on another host"):
        backend_for([*here, there], on_gpu=False)
    with pytest.raises(EngineError, match=r"no host is known by the name 'nowhere\.invalid'"):
        backend_for(["http://nowhere.invalid:8000"], on_gpu=True)
