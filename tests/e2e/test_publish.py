"""Publishing to a real vLLM: five real updates arrive, and every way of losing one stops the run by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch

from grpo.datatypes import Problem, Prompt
from grpo.engine import make_engine
from grpo.engine.protocol import Engine, Request, Sampling
from grpo.errors import EngineError, PublishError
from grpo.recipe import Rollout
from grpo.weights import FP32_TOLERANCE, Publisher, Receipt, Tensors, fingerprint
from tests import tiny_models

pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)

PROBE = tuple(int(token) for token in np.random.default_rng(1).integers(0, tiny_models.VOCABULARY, 48))


@dataclass(frozen=True)
class Subject:
    architecture: str
    learner: tiny_models.TinyLearner
    engine: Engine


@pytest.fixture(scope="module", params=["moe", "dense"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    model = {"moe": tiny_models.make_moe, "dense": tiny_models.make_dense}[request.param]()
    engine = make_engine(
        model=tiny_models.save(model, tmp_path_factory.mktemp(request.param)),
        module=model,
        rollout=Rollout(problems_per_step=1, num_generations=2, max_completion_length=32, max_num_seqs=16),
        dtype="float32",
        max_model_len=tiny_models.WINDOW,
        decode=tiny_models.decode,
        on_gpu=False,
        seed=0,
    )
    yield Subject(request.param, tiny_models.TinyLearner(model), engine)
    engine.close()


@pytest.fixture
def published(subject: Subject) -> Subject:
    """The subject with both sides at one version, whatever the test before it broke."""
    Publisher(subject.learner, subject.engine, [PROBE], exact=True).publish(subject.engine.version + 1)
    return subject


class Broken:
    """An engine whose deliveries go wrong in one way."""

    def __init__(self, engine: Engine, deliver: Callable[[Engine, Tensors, int], Receipt]) -> None:
        self._engine, self._deliver = engine, deliver
        self.version = engine.version

    def load(self, tensors: Tensors, version: int) -> Receipt:
        receipt = self._deliver(self._engine, tensors, version)
        self.version = self._engine.version
        return receipt

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self._engine.score(token_ids)


def publish_broken(subject: Subject, deliver: Callable[[Engine, Tensors, int], Receipt]) -> PublishError:
    """One optimizer step and a publish that goes wrong; the error it must raise."""
    subject.learner.step(PROBE)
    publisher = Publisher(subject.learner, Broken(subject.engine, deliver), [PROBE], exact=True)
    with pytest.raises(PublishError) as caught:
        publisher.publish(subject.engine.version + 1)
    return caught.value


def dropping(part: str) -> Callable[[Engine, Tensors, int], Receipt]:
    """Tensors are lost after the engine has signed for them."""

    def deliver(engine: Engine, tensors: Tensors, version: int) -> Receipt:
        everything = dict(tensors)
        receipt = engine.load(iter([(n, t) for n, t in everything.items() if part not in n]), version)
        hashes = {name: fingerprint(tensor) for name, tensor in everything.items()}
        return Receipt(version=version, hashes=hashes, missed=receipt.missed, repacked=receipt.repacked)

    return deliver


def test_five_real_updates_arrive(published: Subject) -> None:
    publisher = Publisher(published.learner, published.engine, [PROBE], exact=True)
    start = published.engine.version
    for version in range(start + 1, start + 6):
        before = published.engine.score(PROBE)
        published.learner.step(PROBE)
        assert np.abs(published.learner.score(PROBE) - before).max() > 100 * FP32_TOLERANCE, "the step is visible"
        publication = publisher.publish(version)
        assert publication.probe_difference < FP32_TOLERANCE
        assert publication.version == published.engine.version == version
        assert publication.num_bytes == sum(tensor.nbytes for _, tensor in published.learner.named_tensors())


def test_many_updates_leave_no_trace_on_the_engines_loaders(published: Subject) -> None:
    """vLLM keeps the parameters that an update restores; what an update wraps them in once piled up, call in call."""
    before = loader_depths()
    assert max(before.values()) > 0, "vLLM wraps them once"
    for version in range(published.engine.version + 1, published.engine.version + 4):
        published.engine.load(published.learner.named_tensors(), version)
    assert loader_depths() == before


def loader_depths() -> dict[tuple[int, str], int]:
    """How many functions each kept parameter's loader is wrapped in."""
    from vllm.model_executor.model_loader.reload.layerwise import LAYERWISE_INFO

    depths = {}
    for number, info in enumerate(LAYERWISE_INFO.values()):
        for name, parameter in info.restore_metadata[0].items():
            loader, depths[number, name] = getattr(parameter, "weight_loader", None), 0
            while hasattr(loader, "__wrapped__"):
                loader, depths[number, name] = loader.__wrapped__, depths[number, name] + 1
    return depths


def test_answers_after_an_update_are_the_new_policys(published: Subject) -> None:
    published.learner.step(PROBE)
    version = published.engine.version + 1
    Publisher(published.learner, published.engine, [PROBE], exact=True).publish(version)
    prompt = Prompt(problem=Problem(problem_id="p", question="", reference=""), token_ids=PROBE[:40], ordinal=0)
    (answer,) = published.engine.sample(
        [Request(prompt=prompt, sample_index=0, seed=3, sampling=Sampling(max_tokens=20))]
    )
    scores = published.learner.score([*prompt.token_ids, *answer.token_ids.tolist()])[39:]
    np.testing.assert_allclose(answer.behavior_logprobs, scores, atol=FP32_TOLERANCE, rtol=0)
    assert answer.version == version


def test_a_skipped_publish_is_caught(published: Subject) -> None:
    def deliver(engine: Engine, tensors: Tensors, version: int) -> Receipt:
        return Receipt(version=engine.version, hashes={})

    held = published.engine.version
    error = publish_broken(published, deliver)
    assert "never arrived" in str(error)
    assert error.tensor == next(published.learner.named_tensors())[0]
    assert (error.version_sent, error.version_held) == (held + 1, held)


def test_a_publish_that_claims_to_have_loaded_is_caught_by_the_probe(published: Subject) -> None:
    def deliver(engine: Engine, tensors: Tensors, version: int) -> Receipt:
        receipt = Receipt(version=version, hashes={name: fingerprint(tensor) for name, tensor in tensors})
        engine.version = version
        return receipt

    error = publish_broken(published, deliver)
    assert "nats apart" in str(error)
    assert error.tensor


def test_one_dropped_expert_is_named(published: Subject) -> None:
    if published.architecture != "moe":
        pytest.skip("a dense model has no experts")
    error = publish_broken(published, dropping("layers.1.mlp.experts.2."))
    assert "layers.1.mlp.experts" in error.tensor
    assert "expert 2" in error.tensor
    assert error.version_sent == published.engine.version


def test_all_experts_dropped_are_named(published: Subject) -> None:
    if published.architecture != "moe":
        pytest.skip("a dense model has no experts")
    error = publish_broken(published, dropping(".mlp.experts."))
    assert error.tensor.startswith("model.layers.0.mlp.experts")


def test_part_of_a_fused_projection_dropped_is_named(published: Subject) -> None:
    error = publish_broken(published, dropping("layers.1.self_attn.k_proj"))
    assert error.tensor.startswith("model.layers.1.self_attn.qkv_proj.weight")


def test_a_dropped_tied_head_is_named(published: Subject) -> None:
    error = publish_broken(published, dropping("lm_head"))
    assert error.tensor == "lm_head.weight"


def test_the_previous_versions_bytes_are_caught(published: Subject) -> None:
    previous = {name: tensor.clone() for name, tensor in published.learner.named_tensors()}

    def deliver(engine: Engine, tensors: Tensors, version: int) -> Receipt:
        return engine.load(iter([(name, previous[name]) for name, _ in tensors]), version)

    error = publish_broken(published, deliver)
    assert "are not the bytes sent" in str(error)
    assert error.tensor in previous


def test_the_previous_versions_number_is_caught(published: Subject) -> None:
    held = published.engine.version

    def deliver(engine: Engine, tensors: Tensors, version: int) -> Receipt:
        return engine.load(tensors, held)

    error = publish_broken(published, deliver)
    assert (error.version_sent, error.version_held) == (held + 1, held)


def test_one_flipped_byte_is_caught(published: Subject) -> None:
    wanted = "model.layers.1.self_attn.o_proj.weight"

    def flip(tensors: Tensors) -> Tensors:
        for name, tensor in tensors:
            arrived = tensor.clone()
            if name == wanted:
                arrived.view(torch.uint8).view(-1)[17] ^= 1
            yield name, arrived

    error = publish_broken(published, lambda engine, tensors, version: engine.load(flip(tensors), version))
    assert error.tensor == wanted
    assert "are not the bytes sent" in str(error)


def test_experts_left_unpacked_are_caught(published: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    if published.architecture != "moe":
        pytest.skip("a dense model has no experts")
    from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method

    from grpo.engine.vllm_engine import patches

    method = unquantized_fused_moe_method.UnquantizedFusedMoEMethod
    monkeypatch.setattr(method, "_setup_kernel", patches._first_load_only)
    error = publish_broken(published, lambda engine, tensors, version: engine.load(tensors, version))
    assert "nats apart" in str(error)
    assert error.tensor.startswith("model.layers.0.mlp.experts")


def test_a_tensor_of_no_parameter_is_refused_by_name(published: Subject) -> None:
    tensors = [*published.learner.named_tensors(), ("model.layers.0.no_such.weight", torch.zeros(2))]
    with pytest.raises(EngineError, match=r"model\.layers\.0\.no_such\.weight"):
        published.engine.load(iter(tensors), published.engine.version + 1)


def test_weights_do_not_change_under_answers_being_sampled(published: Subject) -> None:
    prompt = Prompt(problem=Problem(problem_id="p", question="", reference=""), token_ids=(1, 2, 3), ordinal=0)
    lengths = (2, 30)
    requests = [
        Request(prompt=prompt, sample_index=i, seed=i, sampling=Sampling(max_tokens=n)) for i, n in enumerate(lengths)
    ]
    arriving = published.engine.sample(requests)
    next(arriving)
    with pytest.raises(EngineError, match="being sampled"):
        published.engine.load(published.learner.named_tensors(), published.engine.version + 1)
    assert len(list(arriving)) == 1
