"""The in-process engine beside the learner on one GPU: the same transfer, the same proof."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from grpo.datatypes import Problem, Prompt
from grpo.engine import make_engine
from grpo.engine.protocol import Engine, Request, Sampling
from grpo.recipe import Rollout
from grpo.weights import Publisher
from tests import tiny_models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def engine_of(model: PreTrainedModel, folder: Path, dtype: str, *, sleep: bool = False) -> Engine:
    rollout = Rollout(
        problems_per_step=1,
        num_generations=2,
        max_completion_length=16,
        max_num_seqs=16,
        gpu_memory_utilization=0.2,
        sleep=sleep,
    )
    return make_engine(
        model=tiny_models.save(model, folder),
        module=model,
        rollout=rollout,
        dtype=dtype,
        max_model_len=tiny_models.WINDOW,
        decode=tiny_models.decode,
        on_gpu=True,
        seed=0,
    )


@pytest.mark.parametrize("make", [tiny_models.make_moe, tiny_models.make_dense])
def test_updates_reach_an_engine_on_the_same_gpu(make: object, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    assert callable(make)
    model = make().to("cuda", torch.bfloat16)
    engine = engine_of(model, tmp_path, "bfloat16")
    learner = tiny_models.TinyLearner(model)
    probe = list(range(3, 60))
    publisher = Publisher(learner, engine, [probe], exact=False)
    for version in range(1, 4):
        learner.step(probe)
        assert publisher.publish(version).probe_difference <= publisher.tolerance
    engine.close()


@pytest.mark.parametrize("make", [tiny_models.make_moe, tiny_models.make_dense])
def test_an_engine_in_fp32_computes_what_a_learner_on_the_cpu_does(make: object, tmp_path: Path) -> None:
    """Within 1e-4 nats at every token, which TF32 would miss by far."""
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    assert callable(make)
    model = make()
    engine = engine_of(model, tmp_path, "float32")
    learner = tiny_models.TinyLearner(model)
    probe = list(range(3, 60))
    publisher = Publisher(learner, engine, [probe], exact=True)
    for version in range(1, 4):
        learner.step(probe)
        assert publisher.publish(version).probe_difference <= publisher.tolerance
    engine.close()


def test_a_sleeping_engine_gives_its_memory_back_and_wakes_with_new_weights(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    model = tiny_models.make_dense().to("cuda", torch.bfloat16)
    engine = engine_of(model, tmp_path, "bfloat16", sleep=True)
    learner = tiny_models.TinyLearner(model)
    probe = list(range(3, 60))
    publisher = Publisher(learner, engine, [probe], exact=False)
    prompt = Prompt(problem=Problem(problem_id="p", question="", reference=""), token_ids=tuple(probe[:8]), ordinal=0)
    request = Request(prompt=prompt, sample_index=0, seed=3, sampling=Sampling(max_tokens=8))
    for version in range(1, 4):
        awake = torch.cuda.mem_get_info()[0]
        (first,) = engine.sample([request])
        assert torch.cuda.mem_get_info()[0] - awake > 2**30, "most of the cache is given back"
        (again,) = engine.sample([request])
        assert again.token_ids.tolist() == first.token_ids.tolist(), "it woke with the weights that it had"
        learner.step(probe)
        assert publisher.publish(version).probe_difference <= publisher.tolerance
    engine.close()
