"""The in-process engine beside the learner on one GPU: the same transfer, the same proof."""

from pathlib import Path

import pytest
import torch

from grpo.engine import make_engine
from grpo.recipe import Rollout
from grpo.weights import Publisher
from tests import tiny_models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.parametrize("make", [tiny_models.make_moe, tiny_models.make_dense])
def test_updates_reach_an_engine_on_the_same_gpu(make: object, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    assert callable(make)
    model = make().to("cuda", torch.bfloat16)
    engine = make_engine(
        model=tiny_models.save(model, tmp_path),
        module=model,
        rollout=Rollout(
            problems_per_step=1,
            num_generations=2,
            max_completion_length=16,
            max_num_seqs=16,
            gpu_memory_utilization=0.2,
        ),
        dtype="bfloat16",
        max_model_len=tiny_models.WINDOW,
        decode=tiny_models.decode,
        on_gpu=True,
        seed=0,
    )
    learner = tiny_models.TinyLearner(model)
    probe = list(range(3, 60))
    publisher = Publisher(learner, engine, [probe], exact=False)
    for version in range(1, 4):
        learner.step(probe)
        assert publisher.publish(version).probe_difference <= publisher.tolerance
    engine.close()
