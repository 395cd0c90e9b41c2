"""The bugs that only the real vLLM can have: what its loading leaves undone, and how it wakes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from grpo.engine import make_engine
from grpo.engine.protocol import Engine
from grpo.errors import PublishError
from grpo.recipe import Rollout
from grpo.weights import FP32_TOLERANCE, Publisher
from tests import tiny_models

pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)

PROBE = tuple(int(token) for token in np.random.default_rng(1).integers(0, tiny_models.VOCABULARY, 48))


@dataclass(frozen=True)
class Sides:
    learner: tiny_models.TinyLearner
    engine: Engine

    def publish(self) -> None:
        self.learner.step(PROBE)
        publisher = Publisher(self.learner, self.engine, [PROBE], exact=True)
        assert publisher.publish(self.engine.version + 1).probe_difference < FP32_TOLERANCE


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """A mixture of experts, in the learner and in vLLM."""
    model = tiny_models.make_moe()
    engine = make_engine(
        model=tiny_models.save(model, tmp_path_factory.mktemp("moe")),
        module=model,
        rollout=Rollout(problems_per_step=1, num_generations=2, max_completion_length=32, max_num_seqs=16),
        dtype="float32",
        max_model_len=tiny_models.WINDOW,
        decode=tiny_models.decode,
        on_gpu=False,
        seed=0,
    )
    yield Sides(tiny_models.TinyLearner(model), engine)
    engine.close()


def test_a_load_that_is_finished_after_every_chunk_corrupts_experts_and_stops_the_run(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grpo.engine.vllm_engine.transfer import (
        InProcessTransfer,
        finalize_layerwise_reload,
        initialize_layerwise_reload,
    )

    receive = InProcessTransfer.receive_weights

    def by_chunks(self: InProcessTransfer, delivery: Any) -> None:
        tensors, whole = list(delivery.tensors), delivery.tensors
        for chunk in (tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]):
            delivery.tensors = iter(chunk)
            receive(self, delivery)
            finalize_layerwise_reload(self.model, self.model_config)
            initialize_layerwise_reload(self.model)
        delivery.tensors = whole

    sides.publish()
    monkeypatch.setattr(InProcessTransfer, "receive_weights", by_chunks)
    with pytest.raises(PublishError) as caught:
        sides.publish()
    assert "layers" in caught.value.tensor
    monkeypatch.undo()
    sides.publish()


class Recorder:
    """A vLLM that says in which order it was told to wake and to load."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self.said: list[str] = []

    def sleep(self, level: int) -> None:
        self.said.append(f"sleep at level {level}")

    def wake_up(self, tags: list[str]) -> None:
        self.said += [f"wake {tag}" for tag in tags]

    def collective_rpc(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.said.append(method)
        return self._llm.collective_rpc(method, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)


def test_an_engine_wakes_its_cache_after_the_weights_have_been_loaded(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Woken at once, both would be there while loading needs room; sleeping any deeper would drop the weights."""
    from grpo.engine.vllm_engine.sleep import SleepMode

    recorder = Recorder(sides.engine._llm)  # type: ignore[attr-defined]
    monkeypatch.setattr(sides.engine, "_llm", recorder)
    monkeypatch.setattr(sides.engine, "_sleep_mode", SleepMode(recorder, on=True))
    sides.engine._sleep_mode.sleep()  # type: ignore[attr-defined]
    sides.publish()
    updates = ["start_weight_update", "update_weights", "finish_weight_update"]
    assert recorder.said == ["sleep at level 1", "wake weights", *updates, "wake kv_cache"]
