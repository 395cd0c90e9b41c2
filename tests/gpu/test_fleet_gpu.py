"""Replicas on GPUs of their own: each sees its own alone, and a publish from the first GPU reaches all."""

from pathlib import Path

import pytest
import torch

from grpo.datatypes import Problem, Prompt
from grpo.engine.fleet import EngineFleet
from grpo.engine.protocol import Request, Sampling
from grpo.engine.replica import Start
from grpo.recipe import Rollout
from grpo.weights import Publisher
from tests import tiny_models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

PROBE = list(range(3, 60))


def devices() -> tuple[tuple[int, ...], ...]:
    """The second and third GPU beside a learner on the first, or all on the one that there is."""
    count = torch.cuda.device_count()
    return tuple((number % count,) for number in (1, 2))


@pytest.mark.parametrize("architecture", ["moe", "dense"])
def test_updates_reach_replicas_on_gpus_of_their_own(architecture: str, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    model = {"moe": tiny_models.make_moe, "dense": tiny_models.make_dense}[architecture]()
    model = model.to("cuda:0", torch.bfloat16)
    rollout = Rollout(
        problems_per_step=1,
        num_generations=2,
        max_completion_length=16,
        max_num_seqs=16,
        gpu_memory_utilization=0.2,
    )
    start = Start(
        model=tiny_models.save(model, tmp_path / "model"),
        rollout=rollout,
        dtype="bfloat16",
        max_model_len=tiny_models.WINDOW,
        on_gpu=True,
        seed=0,
    )
    reports: list[str] = []
    fleet = EngineFleet(
        start,
        num_replicas=2,
        decode=tiny_models.decode,
        logs=tmp_path / "logs",
        num_threads=2,
        devices=devices(),
        report=reports.append,
    )
    try:
        learner = tiny_models.TinyLearner(model)
        publisher = Publisher(learner, fleet, [PROBE], exact=False)
        for version in range(1, 4):
            learner.step(PROBE)
            assert publisher.publish(version).probe_difference <= publisher.tolerance
            assert [replica.version for replica in fleet.replicas] == [version, version]
        prompts = [
            Prompt(problem=Problem(problem_id=f"p{i}", question="", reference=""), token_ids=(5, 9, i + 1), ordinal=i)
            for i in range(4)
        ]
        sampling = Sampling(max_tokens=8)
        requests = [Request(prompt=p, sample_index=0, seed=p.ordinal, sampling=sampling) for p in prompts]
        assert sorted(answer.prompt.ordinal for answer in fleet.sample(requests)) == [0, 1, 2, 3]
        assert reports == []
    finally:
        fleet.close()
