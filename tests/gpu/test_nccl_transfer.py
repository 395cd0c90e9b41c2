"""Weights to ``vllm serve`` by NCCL: from the first GPU to a server on the second, in buckets, each publish proven."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from grpo.datatypes import Problem, Prompt
from grpo.engine.protocol import Request, Sampling
from grpo.engine.server_command import NCCL, serve_command
from grpo.engine.server_engine import ServerEngine
from grpo.errors import EngineError
from grpo.recipe import Rollout
from grpo.weights import Publisher
from tests import tiny_models

pytestmark = [
    pytest.mark.slow,  # a server starts in half a minute
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs: NCCL joins no GPU with itself"),
]

ROOT = Path(__file__).parents[2]
PROBE = list(range(3, 60))


def start_of(model: str) -> dict[str, Any]:
    rollout = Rollout(
        problems_per_step=1, num_generations=2, max_completion_length=16, max_num_seqs=16, gpu_memory_utilization=0.3
    )
    return {
        "model": model,
        "rollout": rollout,
        "dtype": "bfloat16",
        "max_model_len": tiny_models.WINDOW,
        "on_gpu": True,
        "seed": 0,
        "backend": NCCL,
    }


@contextmanager
def served(start: dict[str, Any], log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server on the second GPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": visible[1],
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    command = shlex.split(serve_command(**start, address=address))
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        yield address, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("architecture", ["moe", "dense"])
def test_updates_reach_a_server_by_nccl(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    model = {"moe": tiny_models.make_moe, "dense": tiny_models.make_dense}[architecture]()
    model = model.to("cuda:0", torch.bfloat16)
    learner = tiny_models.TinyLearner(model)
    start = start_of(tiny_models.save(model, tmp_path / "model"))
    half = sum(tensor.nbytes for _, tensor in learner.named_tensors()) // 2
    monkeypatch.setattr("grpo.engine.vllm_engine.nccl_carrier.BUCKET_BYTES", half)
    reports: list[str] = []
    with served(start, tmp_path / "server.log") as (address, _):
        engine = ServerEngine([address], **start, decode=tiny_models.decode, report=reports.append)
        try:
            publisher = Publisher(learner, engine, [PROBE], exact=False)
            for version in range(1, 4):
                learner.step(PROBE)
                publication = publisher.publish(version)
                assert publication.probe_difference <= publisher.tolerance
                assert publication.num_tensors == len(list(learner.named_tensors()))
            prompt = Prompt(problem=Problem(problem_id="p", question="", reference=""), token_ids=(5, 9), ordinal=0)
            request = Request(prompt=prompt, sample_index=0, seed=1, sampling=Sampling(max_tokens=8))
            (answer,) = engine.sample([request])
            assert (answer.num_tokens, answer.segments[0].version) == (8, 3)
        finally:
            engine.close()
    assert all(report.startswith("waiting up to") for report in reports)


def test_a_server_killed_before_a_publish_ends_it_by_name_and_not_in_a_hang(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    model = tiny_models.make_dense().to("cuda:0", torch.bfloat16)
    learner = tiny_models.TinyLearner(model)
    start = start_of(tiny_models.save(model, tmp_path / "model"))
    with served(start, tmp_path / "server.log") as (address, process):
        engine = ServerEngine([address], **start, decode=tiny_models.decode, report=lambda _: None, patience_s=30.0)
        engine.load(learner.named_tensors(), 1)

        def killing() -> Iterator[tuple[str, torch.Tensor]]:
            """The server dies when it waits for the first bucket."""
            yield from learner.named_tensors()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

        with pytest.raises(EngineError, match=address.removeprefix("http://")):
            engine.load(killing(), 2)
