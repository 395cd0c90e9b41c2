"""One engine over two worker processes: real weights reach both, what is lost is named, and nothing outlives it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from grpo.engine.fleet import EngineFleet
from grpo.engine.protocol import Sampling
from grpo.engine.replica import Start
from grpo.errors import PublishError
from grpo.recipe import Rollout
from grpo.weights import FP32_TOLERANCE, Publisher
from tests import tiny_models
from tests.e2e.comparing import PROBE, answers, assert_same, make_requests

pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
pytestmark = pytest.mark.slow  # 20 s for each start

SAMPLING = Sampling(max_tokens=24)


@dataclass
class Subject:
    architecture: str
    learner: tiny_models.TinyLearner
    fleet: EngineFleet
    reports: list[str] = field(default_factory=list)

    def publish(self) -> int:
        """One optimizer step, published and proven; returns the version."""
        self.learner.step(PROBE)
        version = self.fleet.version + 1
        publication = Publisher(self.learner, self.fleet, [PROBE], exact=True).publish(version)
        assert publication.probe_difference < FP32_TOLERANCE
        return version


def start_fleet(architecture: str, folder: Path) -> Subject:
    model = {"moe": tiny_models.make_moe, "dense": tiny_models.make_dense}[architecture]()
    start = Start(
        model=tiny_models.save(model, folder / "model"),
        rollout=Rollout(
            problems_per_step=1,
            num_generations=4,
            max_completion_length=24,
            max_num_seqs=16,
            kv_cache_gb=0.25,
            num_engines=1,
            tensor_parallel=2,
        ),
        dtype="float32",
        max_model_len=tiny_models.WINDOW,
        on_gpu=False,
        seed=0,
    )
    reports: list[str] = []
    fleet = EngineFleet(
        start, num_replicas=1, decode=tiny_models.decode, logs=folder / "logs", num_threads=1, report=reports.append
    )
    return Subject(architecture, tiny_models.TinyLearner(model), fleet, reports)


@pytest.fixture(scope="module", params=["moe", "dense"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    started = start_fleet(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    started.fleet.close()


def test_updates_reach_both_workers_and_answers_are_the_new_policys(subject: Subject) -> None:
    for _ in range(3):
        before = subject.fleet.score(PROBE)
        version = subject.publish()
        assert np.abs(subject.fleet.score(PROBE) - before).max() > 100 * FP32_TOLERANCE, "the step is visible"
    for answer in answers(subject.fleet, make_requests(3, SAMPLING)).values():
        prompt = answer.prompt.token_ids
        expected = subject.learner.score([*prompt, *answer.token_ids.tolist()])[len(prompt) - 1 :]
        np.testing.assert_allclose(answer.behavior_logprobs, expected, atol=FP32_TOLERANCE, rtol=0)
        assert answer.version == version


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        ("layers.1.self_attn.k_proj", "layers.1.self_attn.qkv_proj.weight"),
        ("layers.0.self_attn.o_proj", "layers.0.self_attn.o_proj.weight"),
        ("embed_tokens", "embed_tokens.weight"),
        ("lm_head", "lm_head.weight"),
        ("layers.1.mlp.experts.2.up_proj", "(expert 2, w3)"),
        ("layers.0.mlp.experts.0.", "(expert 0, "),
        ("layers.1.mlp.up_proj", "layers.1.mlp.gate_up_proj.weight"),
    ],
)
def test_a_skipped_tensor_is_named(subject: Subject, dropped: str, named: str) -> None:
    tensors = dict(subject.learner.named_tensors())
    kept = {name: tensor for name, tensor in tensors.items() if dropped not in name}
    if len(kept) == len(tensors):
        pytest.skip(f"{subject.architecture} has no {dropped}")
    with pytest.raises(PublishError, match="engine-0 were reached by no tensor") as caught:
        subject.fleet.load(iter(kept.items()), subject.fleet.version + 1)
    assert named in caught.value.tensor
    assert caught.value.tensor.endswith(" of worker 0")
    subject.publish()


def test_nothing_outlives_a_killed_replica_or_a_closed_one(tmp_path: Path) -> None:
    subject = start_fleet("moe", tmp_path)
    try:
        requests = make_requests(3, SAMPLING)
        subject.publish()
        undisturbed = answers(subject.fleet, requests)

        for victim in ("worker", "replica"):
            (replica,) = subject.fleet.replicas
            processes, memory = session_of(replica.pid), shared_memory_of(replica.pid)
            assert len(processes) >= 3, "the replica and two workers"
            assert memory, "through which they speak"
            killed = workers_of(replica.pid)[-1] if victim == "worker" else replica.pid
            os.kill(killed, signal.SIGSTOP)  # so that the answers cannot all have come before it is killed
            threading.Timer(1.0, os.kill, (killed, signal.SIGKILL)).start()
            assert_same(answers(subject.fleet, requests), undisturbed)
            assert len(subject.reports) == 1
            subject.reports.clear()
            assert_gone(processes, memory)

        (replica,) = subject.fleet.replicas
        processes, memory = session_of(replica.pid), shared_memory_of(replica.pid)
    finally:
        subject.fleet.close()
    assert_gone(processes, memory)


def assert_gone(processes: set[int], memory: set[Path]) -> None:
    """Within seconds; a zombie is gone."""
    deadline = time.monotonic() + 20
    while (alive := {pid for pid in processes if state_of(pid) not in "ZX"}) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive
    assert not [path for path in memory if path.exists()]


def session_of(leader: int) -> set[int]:
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return {pid for pid in pids if session_id(pid) == leader}


def session_id(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def workers_of(leader: int) -> list[int]:
    """Those that compute: all of them have the model's checkpoint reader, and torch, in their memory."""
    return sorted(pid for pid in session_of(leader) - {leader} if shared_memory_of(pid))


def state_of(pid: int) -> str:
    """One letter; X where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def shared_memory_of(pid: int) -> set[Path]:
    """Files in shared memory that a process has in its own, beside the parcel that is its fleet's."""
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    paths = {Path(line[line.index("/dev/shm/") :]) for line in lines if "/dev/shm/" in line}
    return {path for path in paths if not path.name.startswith("grpo-parcel-") and path.exists()}
