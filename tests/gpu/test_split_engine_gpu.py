"""One engine over two GPUs: a publish from the learner reaches the slices, or the experts, of both."""

from pathlib import Path

import pytest
import torch

from grpo.engine.fleet import EngineFleet
from grpo.engine.replica import Start
from grpo.errors import PublishError
from grpo.recipe import Rollout
from grpo.weights import Publisher
from tests import tiny_models

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")

PROBE = list(range(3, 60))


@pytest.mark.parametrize(("architecture", "expert_parallel"), [("dense", False), ("moe", False), ("moe", True)])
def test_updates_reach_both_gpus_of_an_engine(architecture: str, expert_parallel: bool, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    model = {"moe": tiny_models.make_moe, "dense": tiny_models.make_dense}[architecture]()
    model = model.to("cuda:0", torch.bfloat16)
    start = Start(
        model=tiny_models.save(model, tmp_path / "model"),
        rollout=Rollout(
            problems_per_step=1,
            num_generations=2,
            max_completion_length=16,
            max_num_seqs=16,
            gpu_memory_utilization=0.2,
            num_engines=1,
            tensor_parallel=2,
            expert_parallel=expert_parallel,
        ),
        dtype="bfloat16",
        max_model_len=tiny_models.WINDOW,
        on_gpu=True,
        seed=0,
    )
    fleet = EngineFleet(
        start,
        num_replicas=1,
        decode=tiny_models.decode,
        logs=tmp_path / "logs",
        num_threads=2,
        devices=((0, 1),),
        report=pytest.fail,
    )
    try:
        learner = tiny_models.TinyLearner(model)
        publisher = Publisher(learner, fleet, [PROBE], exact=False)
        for version in range(1, 4):
            learner.step(PROBE)
            assert publisher.publish(version).probe_difference <= publisher.tolerance
        lost = "layers.1.mlp.experts.3." if architecture == "moe" else "layers.1.mlp.up_proj"
        kept = [(name, tensor) for name, tensor in learner.named_tensors() if lost not in name]
        with pytest.raises(PublishError, match="reached by no tensor") as caught:
            fleet.load(iter(kept), 4)
        assert ("expert 3" in caught.value.tensor) == (architecture == "moe")
    finally:
        fleet.close()
