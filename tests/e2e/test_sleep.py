"""An engine that sleeps between rounds. On a CPU vLLM frees nothing, but its scheduler does stop, and must be woken."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grpo.engine import make_vllm_engine
from grpo.engine.protocol import Sampling
from grpo.recipe import Rollout
from grpo.weights import FP32_TOLERANCE, Publisher
from tests import tiny_models
from tests.e2e.comparing import PROBE, answers, assert_same, make_requests

pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)

SAMPLING = Sampling(max_tokens=16)
WAKING_ALL, WAKING_WEIGHTS, WAKING_CACHE = ["weights", "kv_cache"], ["weights"], ["kv_cache"]


@dataclass
class Subject:
    engine: Any
    learner: tiny_models.TinyLearner
    calls: list[object] = field(default_factory=list)

    def is_asleep(self) -> bool:
        return bool(self.engine._llm.is_sleeping())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    model = tiny_models.make_dense()
    engine = make_vllm_engine(
        model=tiny_models.save(model, Path(tmp_path_factory.mktemp("model"))),
        rollout=Rollout(problems_per_step=1, num_generations=4, max_completion_length=16, max_num_seqs=16, sleep=True),
        dtype="float32",
        max_model_len=tiny_models.WINDOW,
        decode=tiny_models.decode,
        on_gpu=False,
        seed=0,
    )
    yield Subject(engine, tiny_models.TinyLearner(model))
    engine.close()


@pytest.fixture
def subject(started: Subject, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """With a record of what vLLM is told, each time before it does it."""
    started.calls.clear()
    llm = started.engine._llm
    for name in ("sleep", "wake_up", "collective_rpc", "reset_prefix_cache"):
        real = getattr(llm, name)

        def told(*args: Any, name: str = name, real: Any = real, **kwargs: Any) -> Any:
            started.calls.append((name, *args, *kwargs.values()))
            return real(*args, **kwargs)

        monkeypatch.setattr(llm, name, told)
    return started


def test_it_sleeps_after_the_last_answer_and_wakes_for_the_next_round(subject: Subject) -> None:
    requests = make_requests(2, SAMPLING)
    first = answers(subject.engine, requests)
    assert subject.is_asleep()
    subject.calls.clear()
    assert_same(answers(subject.engine, requests), first)
    assert subject.calls == [("wake_up", WAKING_ALL), ("reset_prefix_cache",), ("sleep", 1)]


def test_it_wakes_the_weights_before_a_load_and_the_cache_after_it(subject: Subject) -> None:
    list(subject.engine.sample(make_requests(1, SAMPLING)))
    subject.learner.step(PROBE)
    subject.calls.clear()
    version = subject.engine.version + 1
    publication = Publisher(subject.learner, subject.engine, [PROBE], exact=True).publish(version)
    assert publication.probe_difference < FP32_TOLERANCE
    assert [call[:2] for call in subject.calls] == [
        ("wake_up", WAKING_WEIGHTS),
        ("collective_rpc", "start_weight_update"),
        ("collective_rpc", "update_weights"),
        ("collective_rpc", "finish_weight_update"),
        ("wake_up", WAKING_CACHE),
        ("reset_prefix_cache",),
    ]
    assert not subject.is_asleep(), "answers are asked for next"
    for answer in answers(subject.engine, make_requests(2, SAMPLING)).values():
        prompt = answer.prompt.token_ids
        expected = subject.learner.score([*prompt, *answer.token_ids.tolist()])[len(prompt) - 1 :]
        np.testing.assert_allclose(answer.behavior_logprobs, expected, atol=FP32_TOLERANCE, rtol=0)


def test_a_score_wakes_it_too(subject: Subject) -> None:
    list(subject.engine.sample(make_requests(1, SAMPLING)))
    assert subject.is_asleep()
    np.testing.assert_allclose(subject.engine.score(PROBE), subject.learner.score(PROBE), atol=1e-4, rtol=1e-4)
    assert not subject.is_asleep()


def test_an_abandoned_round_puts_it_to_sleep(subject: Subject) -> None:
    requests = make_requests(2, SAMPLING)
    whole = answers(subject.engine, requests)
    abandoned = subject.engine.sample(requests)
    next(abandoned)
    assert not subject.is_asleep()
    abandoned.close()
    assert subject.is_asleep()
    assert_same(answers(subject.engine, requests), whole)
