"""Two real vLLM engines in processes of their own: they answer as one does, and go on when one is killed."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grpo.datatypes import Problem, Prompt
from grpo.engine import make_engine
from grpo.engine.fleet import EngineFleet
from grpo.engine.parcel import SHARED_MEMORY
from grpo.engine.protocol import Engine, Sampling
from grpo.engine.replica import Load, Order, Replica, Start
from grpo.errors import EngineError, PublishError
from grpo.learner import Policy
from grpo.models import resolve_model
from grpo.recipe import Rollout
from grpo.weights import FP32_TOLERANCE
from tests.e2e import comparing
from tests.e2e.comparing import PROBE, WINDOW, Named, answers, make_requests, publish_changed

pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)

SETTINGS = Start(
    model=resolve_model("tiny-base"),
    rollout=Rollout(
        problems_per_step=1, num_generations=4, max_completion_length=48, max_num_seqs=16, kv_cache_gb=0.25
    ),
    dtype="float32",
    max_model_len=WINDOW,
    on_gpu=False,
    seed=0,
)


def decode(token_ids: object) -> str:
    return str(token_ids)


def make_fleet(folder: Path, reports: list[str], num_replicas: int = 2, start: Start = SETTINGS) -> EngineFleet:
    return EngineFleet(
        start, num_replicas=num_replicas, decode=decode, logs=folder, num_threads=1, report=reports.append
    )


@dataclass
class Subject:
    """A fleet, a learner, and one engine in this process to compare with; all at one version."""

    fleet: EngineFleet
    single: Engine
    learner: Policy
    reports: list[str] = field(default_factory=list)

    def publish(self) -> int:
        """Change the weights a little and publish them to all."""
        return publish_changed(self.learner, (self.fleet, self.single), self.fleet.version + 1)

    def pids(self) -> dict[str, int]:
        return {replica.name: replica.pid for replica in self.fleet.replicas}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    reports: list[str] = []
    fleet = make_fleet(tmp_path_factory.mktemp("logs"), reports)
    single = make_engine(
        model=SETTINGS.model,
        module=None,
        rollout=SETTINGS.rollout,
        dtype=SETTINGS.dtype,
        max_model_len=WINDOW,
        decode=decode,
        on_gpu=False,
        seed=0,
    )
    yield Subject(fleet, single, Policy.load(SETTINGS.model, dtype=torch.float32, device="cpu"), reports)
    single.close()
    fleet.close()


@pytest.fixture
def subject(started: Subject) -> Subject:
    """Both replicas there and at one version, whatever died before, and earlier deaths long enough ago."""
    for _ in range(10 if started.reports else 0):
        started.fleet.load(started.learner.named_tensors(), started.fleet.version + 1)
    started.publish()
    assert len(started.fleet.replicas) == 2
    started.fleet.take_metrics()
    started.reports.clear()
    return started


def assert_same(ours: Named, theirs: Named) -> None:
    comparing.assert_same(ours, theirs, atol=1e-6)
    for key, completion in ours.items():
        assert completion.text == theirs[key].text
        assert completion.prompt.problem.reference == str(key[0])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_two_replicas_answer_as_one_engine_in_this_process(subject: Subject) -> None:
    requests = make_requests()
    assert_same(answers(subject.fleet, requests), answers(subject.single, requests))
    metrics = subject.fleet.take_metrics()
    assert (metrics["engine/replicas"], metrics["engine/restarts"]) == (2, 0)
    assert 1.0 < metrics["engine/imbalance"] < 2.0, "both replicas had their part"
    assert metrics["publish/bytes_per_second"] > 0


def test_a_publish_is_proven_on_each_replica(subject: Subject) -> None:
    before = [replica.score(PROBE) for replica in subject.fleet.replicas]
    version = subject.publish()
    assert [(replica.name, replica.version) for replica in subject.fleet.replicas] == [
        ("engine-0", version),
        ("engine-1", version),
    ]
    for replica, old in zip(subject.fleet.replicas, before, strict=True):
        new = replica.score(PROBE)
        np.testing.assert_allclose(new, subject.learner.score(PROBE), atol=FP32_TOLERANCE, rtol=FP32_TOLERANCE)
        assert np.abs(new - old).max() > 100 * FP32_TOLERANCE
    assert all(answer.version == version for answer in answers(subject.fleet, make_requests(2)).values())


@pytest.mark.slow
def test_a_byte_flipped_for_one_replica_stops_the_publish_by_name(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Replica.order
    wanted = next(name for name, _ in subject.learner.named_tensors() if "layers.1." in name and "experts.3." in name)

    def order(replica: Replica, order: Order, ticket: int | None = None) -> int:
        if isinstance(order, Load) and replica.name == "engine-1":
            content = bytearray(order.parcel.read_bytes())
            place = content.index(tensor_bytes(dict(subject.learner.named_tensors())[wanted]))
            content[place + 5] ^= 1
            (tmp_path / "parcel").write_bytes(content)
            order = replace(order, parcel=tmp_path / "parcel")
        return honest(replica, order, ticket)

    with monkeypatch.context() as patch:
        patch.setattr(Replica, "order", order)
        with pytest.raises(PublishError, match="engine-1 received other bytes") as caught:
            subject.publish()
    assert caught.value.tensor == wanted
    assert caught.value.version_sent == subject.fleet.version + 1


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def test_a_replica_killed_while_sampling_loses_nothing_and_comes_back(subject: Subject) -> None:
    requests = make_requests(12)
    undisturbed = answers(subject.single, requests)
    pids = subject.pids()
    os.kill(pids["engine-1"], signal.SIGSTOP)  # so that it cannot have answered all before the other's first answer
    assert_same(answers(subject.fleet, requests, lambda: kill(pids["engine-1"])), undisturbed)
    assert list(subject.pids()) == ["engine-0"]
    (report,) = subject.reports
    assert "engine-1" in report
    assert "killed by SIGKILL" in report
    assert subject.fleet.take_metrics()["engine/restarts"] == 1

    version = subject.publish()
    assert [replica.version for replica in subject.fleet.replicas] == [version, version]
    assert subject.pids()["engine-1"] != pids["engine-1"]
    assert_same(answers(subject.fleet, requests), answers(subject.single, requests))


@pytest.mark.slow
def test_a_replica_killed_between_two_steps_is_back_after_the_publish(subject: Subject) -> None:
    kill(subject.pids()["engine-0"])
    version = subject.publish()
    assert [(replica.name, replica.version) for replica in subject.fleet.replicas] == [
        ("engine-0", version),
        ("engine-1", version),
    ]


@pytest.mark.slow
def test_a_replica_that_falls_silent_is_killed_and_its_answers_come_from_the_other(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = make_requests(8, Sampling(max_tokens=20))
    undisturbed = answers(subject.single, requests)
    stopped = subject.pids()["engine-1"]
    with monkeypatch.context() as patch:
        patch.setattr(subject.fleet, "_patience_s", 2.0)
        assert_same(answers(subject.fleet, requests, lambda: os.kill(stopped, signal.SIGSTOP)), undisturbed)
    assert "engine-1" in subject.reports[0]
    assert "said nothing for 6 s and was killed" in subject.reports[0]
    assert not Path(f"/proc/{stopped}").exists()


@pytest.mark.slow
def test_when_all_are_killed_sampling_goes_on_from_the_weights_at_hand(subject: Subject) -> None:
    requests = make_requests()
    undisturbed = answers(subject.single, requests)

    def kill_all() -> None:
        for pid in subject.pids().values():
            kill(pid)

    after = answers(subject.fleet, requests, kill_all)
    assert_same(after, undisturbed)
    assert {answer.version for answer in after.values()} == {subject.fleet.version}
    np.testing.assert_allclose(subject.fleet.score(PROBE), subject.learner.score(PROBE), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_replica_that_starts_again_must_compute_as_one_that_was_proven(subject: Subject) -> None:
    for pid in subject.pids().values():
        kill(pid)
    proven = subject.fleet._probe
    assert proven is not None
    assert proven.token_ids == PROBE
    subject.fleet._probe = replace(proven, scores=proven.scores + 0.1)
    with pytest.raises(PublishError, match=r"engine-\d has started again with the right bytes, yet"):
        answers(subject.fleet, make_requests(2))
    subject.publish()


@pytest.mark.slow
def test_an_abandoned_iterator_leaves_nothing_behind(subject: Subject) -> None:
    requests = make_requests()
    expected = answers(subject.single, requests)
    abandoned = subject.fleet.sample(requests)
    next(abandoned)
    with pytest.raises(EngineError, match="other answers are still being sampled"):
        next(subject.fleet.sample(requests))
    with pytest.raises(EngineError, match="being sampled"):
        subject.fleet.score(PROBE)
    with pytest.raises(EngineError, match="being sampled"):
        subject.fleet.load(iter(()), 1)
    del abandoned
    assert_same(answers(subject.fleet, requests), expected)
    assert subject.publish() == subject.fleet.version


@pytest.mark.slow
def test_a_request_that_cannot_be_served_is_refused_by_name_and_others_are_served(subject: Subject) -> None:
    (good, *_) = requests = make_requests(2)
    long = Prompt(problem=Problem(problem_id="too-long", question="", reference=""), token_ids=(5,) * 200, ordinal=9)
    with pytest.raises(EngineError, match=r"engine-\d: .*too-long#0 has 200 tokens; .*window"):
        list(subject.fleet.sample([*requests, replace(good, prompt=long)]))
    assert len(answers(subject.fleet, requests)) == 8
    assert subject.reports == []


@pytest.mark.slow
def test_a_replica_that_keeps_dying_is_left_out_and_without_any_the_run_ends(tmp_path: Path) -> None:
    reports: list[str] = []
    doomed = {"engine-1"}

    def report(text: str) -> None:
        """Whatever starts in the place of a doomed replica is killed at once."""
        reports.append(text)
        for name in doomed:
            if text.endswith(f"{name} starts again and takes part from the next publish on"):
                starting = fleet._places[name].replica
                assert starting is not None
                kill(starting.pid)

    fleet = EngineFleet(SETTINGS, num_replicas=2, decode=decode, logs=tmp_path, num_threads=1, report=report)
    learner = Policy.load(SETTINGS.model, dtype=torch.float32, device="cpu")
    kill(fleet.replicas[1].pid)
    requests = make_requests(2)
    assert len(answers(fleet, requests)) == 8
    fleet.load(learner.named_tensors(), 1)
    assert [replica.name for replica in fleet.replicas] == ["engine-0"]
    assert [("left out" in text) for text in reports] == [False, False, True]
    fleet.load(learner.named_tensors(), 2)
    assert len(answers(fleet, requests)) == 8
    assert len(reports) == 3, "it is said once"

    doomed.add("engine-0")
    kill(fleet.replicas[0].pid)
    with pytest.raises(EngineError, match=r"no engine is left: engine-0 \(process \d+\) was killed by SIGKILL"):
        answers(fleet, requests)
    fleet.close()
    fleet.close()
    assert not fleet._parcel.path.exists()


@pytest.mark.slow
def test_an_engine_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    before = own_parcels()
    start = replace(SETTINGS, model=str(tmp_path))
    with pytest.raises(EngineError, match=r"engine-\d \(process \d+\) ended with exit code 1.*(?s:.)*did not start"):
        make_fleet(tmp_path / "logs", [], start=start)
    assert own_parcels() == before


def own_parcels() -> set[Path]:
    return set(SHARED_MEMORY.glob(f"grpo-parcel-{os.getpid()}-*"))
