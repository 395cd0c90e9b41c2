"""Two real servers of vLLM: they answer as the engine in process does, and every way of losing them is said."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grpo.engine import make_engine, server_client, server_round
from grpo.engine.protocol import Engine, Request, Sampling
from grpo.engine.server_client import ServerClient
from grpo.engine.server_command import serve_command
from grpo.engine.server_engine import ServerEngine
from grpo.errors import EngineError, PublishError
from grpo.learner import Policy
from grpo.models import resolve_model
from grpo.prompts import Prompts
from grpo.recipe import Rollout
from grpo.weights import FP32_TOLERANCE
from tests.e2e.comparing import PROBE, WINDOW, answers, assert_same, make_requests, publish_changed
from tests.factories import make_prompt

pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
pytestmark = pytest.mark.slow  # a server starts in half a minute

ROOT = Path(__file__).parents[2]
MODEL = resolve_model("tiny-base")
ROLLOUT = Rollout(problems_per_step=1, num_generations=4, max_completion_length=48, max_num_seqs=16, kv_cache_gb=0.25)
START: dict[str, Any] = {
    "model": MODEL,
    "rollout": ROLLOUT,
    "dtype": "float32",
    "max_model_len": WINDOW,
    "on_gpu": False,
    "seed": 0,
}


class Server:
    """One ``vllm serve``, started by the command that the engine's messages show."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.name = f"127.0.0.1:{probe.getsockname()[1]}"
        self.address, self._log = f"http://{self.name}", log
        self.start()

    def start(self) -> None:
        path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PYTHONPATH": path, "PATH": programs, "OMP_NUM_THREADS": "1"}
        # The server decides for itself how it runs; the engine in this process has set these for its own sake.
        for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_LEVEL"):
            environment.pop(name, None)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                shlex.split(serve_command(**START, address=self.address)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """To the server and its engine's process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()


def connect(servers: list[Server], reports: list[str], **changes: Any) -> ServerEngine:
    return ServerEngine(
        [server.address for server in servers],
        **(START | changes),
        decode=str,
        report=reports.append,
        patience_s=120.0,
    )


@dataclass
class Subject:
    """Servers, a learner, and one engine in this process to compare with; all at one version."""

    servers: list[Server]
    engine: ServerEngine
    single: Engine
    learner: Policy
    reports: list[str] = field(default_factory=list)

    def publish(self) -> int:
        """Change the weights a little and publish them to all."""
        return publish_changed(self.learner, (self.engine, self.single), self.engine.version + 1)

    def names(self) -> list[str]:
        return [replica.name for replica in self.engine.replicas]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    logs = tmp_path_factory.mktemp("logs")
    reports: list[str] = []
    servers = [Server(logs / f"server-{number}.log") for number in range(2)]
    try:
        engine = connect(servers, reports)
        single = make_engine(module=None, decode=str, **START)
        yield Subject(servers, engine, single, Policy.load(MODEL, dtype=torch.float32, device="cpu"), reports)
        single.close()
        engine.close()
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def subject(started: Subject) -> Subject:
    """Both servers there and at one version."""
    started.publish()
    assert started.names() == [server.name for server in started.servers]
    started.engine.take_metrics()
    started.reports.clear()
    return started


def test_two_servers_answer_as_the_engine_in_this_process(subject: Subject) -> None:
    requests = make_requests()
    assert_same(answers(subject.engine, requests), answers(subject.single, requests))
    metrics = subject.engine.take_metrics()
    assert (metrics["engine/replicas"], metrics["engine/restarts"]) == (2, 0)
    assert 1.0 < metrics["engine/imbalance"] < 2.0, "both servers had their part"
    assert metrics["publish/bytes_per_second"] > 0


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=24, temperature=0.7, top_p=0.9, top_k=8),
        Sampling(max_tokens=24, temperature=0.0),
        Sampling(max_tokens=24, stop_token_ids=(16, 18)),
    ],
)
def test_every_way_of_sampling_is_the_server_s_too(subject: Subject, sampling: Sampling) -> None:
    requests = make_requests(3, sampling)
    theirs = answers(subject.single, requests)
    assert_same(answers(subject.engine, requests), theirs)
    if sampling.stop_token_ids:
        assert {answer.finish_reason for answer in theirs.values()} >= {"stop"}


def test_a_stop_text_ends_an_answer_with_the_text_in_it(subject: Subject) -> None:
    prompts = make_requests(3)
    texts = answers(subject.engine, prompts)
    first = texts[min(texts)]  # whichever came first
    decode = Prompts(MODEL, "qa", max_prompt_length=64).decode
    place = max(place for place in range(6) if decode([int(first.token_ids[place])]))  # special tokens have no text
    wanted = int(first.token_ids[place])
    stopped = answers(subject.engine, make_requests(3, Sampling(max_tokens=48, stop=(decode([wanted]),))))
    answer = stopped[first.prompt.ordinal, first.sample_index]
    assert answer.finish_reason == "stop"
    assert decode([wanted]) in decode(answer.token_ids.tolist())
    np.testing.assert_array_equal(answer.token_ids, first.token_ids[: len(answer.token_ids)])
    assert len(answer.token_ids) <= place + 1


def test_a_publish_is_proven_on_each_server(subject: Subject) -> None:
    before = [replica.score(PROBE) for replica in subject.engine.replicas]
    version = subject.publish()
    assert [replica.version for replica in subject.engine.replicas] == [version, version]
    for replica, old in zip(subject.engine.replicas, before, strict=True):
        new = replica.score(PROBE)
        np.testing.assert_allclose(new, subject.learner.score(PROBE), atol=FP32_TOLERANCE, rtol=FP32_TOLERANCE)
        assert np.abs(new - old).max() > 100 * FP32_TOLERANCE
    assert all(answer.version == version for answer in answers(subject.engine, make_requests(2)).values())


def test_a_byte_flipped_for_one_server_stops_the_publish_by_name(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, victim = ServerClient.update, subject.servers[1].name
    tensors = dict(subject.learner.named_tensors())
    wanted = next(name for name in tensors if "layers.1." in name and "experts.3." in name)

    def update(server: ServerClient, update_info: dict[str, Any]) -> None:
        if server.name == victim:
            content = bytearray(Path(update_info["parcel"]).read_bytes())
            sent = dict(subject.learner.named_tensors())[wanted].contiguous().view(-1).view(torch.uint8)
            content[content.index(sent.numpy().tobytes()) + 5] ^= 1
            (tmp_path / "parcel").write_bytes(content)
            update_info = {"parcel": str(tmp_path / "parcel")}
        honest(server, update_info)

    with monkeypatch.context() as patch:
        patch.setattr(ServerClient, "update", update)
        with pytest.raises(PublishError, match=f"{victim} received other bytes") as caught:
            subject.publish()
    assert caught.value.tensor == wanted
    assert caught.value.version_sent == subject.engine.version + 1


def test_tensors_that_are_not_sent_are_missed_by_name_and_one_too_many_is_refused(subject: Subject) -> None:
    tensors = list(subject.learner.named_tensors())
    lost = next(name for name, _ in tensors if "layers.1." in name and "experts.3.up_proj" in name)
    kept = ((name, tensor) for name, tensor in tensors if name != lost)
    (missed,) = subject.engine.load(kept, subject.engine.version + 1).missed
    assert "layers.1." in missed
    assert "expert 3" in missed
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:\d+ answers POST /update_weights with 500 .*nonsense"):
        subject.engine.load(iter([("model.nonsense.weight", torch.zeros(3))]), subject.engine.version + 1)


def test_a_server_killed_while_sampling_loses_nothing_and_is_back_once_it_was_started_again(subject: Subject) -> None:
    requests = make_requests(8)
    undisturbed = answers(subject.single, requests)
    stays, goes = subject.servers
    assert_same(answers(subject.engine, requests, goes.kill), undisturbed)
    assert subject.names() == [stays.name]
    (report,) = subject.reports
    assert goes.name in report
    assert serve_command(**START, address=goes.address) in report

    subject.publish()
    assert subject.names() == [stays.name], "it is not there yet"
    goes.start()
    client = ServerClient(goes.address, command="", patience_s=5.0)
    while not client.is_healthy():
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"the server ended with exit code {goes.process.wait(1)}")
    assert subject.names() == [stays.name], "it holds other weights"
    version = subject.publish()
    assert [replica.version for replica in subject.engine.replicas] == [version, version]
    assert subject.engine.take_metrics()["engine/restarts"] == 1
    assert_same(answers(subject.engine, requests), answers(subject.single, requests))


def test_a_server_that_falls_silent_is_taken_out_and_its_answers_come_from_the_other(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = make_requests(8)
    undisturbed = answers(subject.single, requests)
    stays, stops = subject.servers
    with monkeypatch.context() as patch:
        patch.setattr(server_round, "HEALTH_EVERY_S", 2.0)
        patch.setattr(server_client, "HEALTH_PATIENCE_S", 4.0)
        assert_same(answers(subject.engine, requests, lambda: stops.signal(signal.SIGSTOP)), undisturbed)
    assert subject.names() == [stays.name]
    assert f"{stops.name} does not answer /health any more" in subject.reports[0]
    stops.signal(signal.SIGCONT)
    subject.publish()
    assert subject.names() == [stays.name, stops.name]
    assert_same(answers(subject.engine, requests), answers(subject.single, requests))


def test_an_abandoned_iterator_leaves_nothing_behind(subject: Subject) -> None:
    requests = make_requests()
    expected = answers(subject.single, requests)
    abandoned = subject.engine.sample(requests)
    next(abandoned)
    with pytest.raises(EngineError, match="other answers are still being sampled"):
        next(subject.engine.sample(requests))
    with pytest.raises(EngineError, match="being sampled"):
        subject.engine.score(PROBE)
    with pytest.raises(EngineError, match="being sampled"):
        subject.engine.load(iter(()), 1)
    del abandoned
    assert_same(answers(subject.engine, requests), expected)
    assert subject.publish() == subject.engine.version


def test_answers_of_weights_that_another_published_are_refused(subject: Subject) -> None:
    ServerClient(subject.servers[0].address, command="", patience_s=60.0).ask(
        "POST", "/update_weight_version", {"new_version": "other:1"}
    )
    with pytest.raises(EngineError, match=r"sampled by weights \['other:1'\].*is another run publishing"):
        answers(subject.engine, make_requests(4))
    subject.publish()
    assert len(answers(subject.engine, make_requests(2))) == 8


def test_a_second_run_begins_with_a_publish_and_wants_the_servers_as_it_needs_them(subject: Subject) -> None:
    reports: list[str] = []
    second = connect(subject.servers, reports)
    assert second.replicas == ()
    with pytest.raises(EngineError, match="no server is left: the weights that they hold are another run's"):
        second.score(PROBE)
    second.load(subject.learner.named_tensors(), 0)
    assert [replica.version for replica in second.replicas] == [0, 0]
    np.testing.assert_allclose(second.score(PROBE), subject.learner.score(PROBE), atol=1e-4, rtol=1e-4)
    second.close()
    with pytest.raises(EngineError, match=f"(?s)--max-model-len {WINDOW} instead of at least 200.*api_server"):
        connect(subject.servers, reports, max_model_len=200)
    with pytest.raises(EngineError, match="--dtype 'float32' instead of 'bfloat16'"):
        connect(subject.servers, reports, dtype="bfloat16")
    assert reports == []


def test_a_request_that_cannot_be_served_is_refused_by_name(subject: Subject) -> None:
    (request, *_) = make_requests(1)
    long = Request(prompt=make_prompt(9, token_ids=[5] * 200), sample_index=0, seed=1, sampling=Sampling(max_tokens=4))
    with pytest.raises(EngineError, match="p/9#0 has 200 tokens; .*window"):
        list(subject.engine.sample([request, long]))
    wild = Request(prompt=request.prompt, sample_index=0, seed=1, sampling=Sampling(max_tokens=4, top_k=-7))
    with pytest.raises(EngineError, match=rf"{subject.servers[0].name} answers POST .* with 400 .*top_k"):
        list(subject.engine.sample([wild]))
    with pytest.raises(EngineError, match="cannot score 200 tokens"):
        subject.engine.score([5] * 200)
    assert len(answers(subject.engine, make_requests(2))) == 8
    assert subject.reports == []


def test_vllm_finds_the_backends_through_the_entry_point(tmp_path: Path) -> None:
    """In a fresh process that names neither: with the entry point of an installed package."""
    installed = tmp_path / "grpo_trial-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: grpo-trial\nVersion: 0\n", encoding="utf-8")
    entry_point = "[vllm.general_plugins]\ngrpo = grpo.engine.vllm_engine.plugin:register\n"
    (installed / "entry_points.txt").write_text(entry_point, encoding="utf-8")
    program = (
        "from vllm.plugins import load_general_plugins as load\n"
        "from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory as factory\n"
        "load()\n"
        "print(*(factory._registry[name]().__name__ for name in ('grpo-shared-memory', 'grpo-nccl')))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False, cwd=tmp_path
    )
    assert done.stdout.split()[-2:] == ["ParcelTransfer", "NcclTransfer"], done.stderr
