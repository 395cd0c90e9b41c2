"""What the tests of several engines share: requests, every answer by its request, and what makes two engines alike."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from grpo.datatypes import Completion
from grpo.engine.protocol import Engine, Request, Sampling
from grpo.learner import Policy
from grpo.weights import FP32_TOLERANCE, Publisher
from tests.factories import make_prompt

Named = dict[tuple[int, int], Completion]
WINDOW = 112
PROBE = tuple(int(token) for token in np.random.default_rng(1).integers(3, 40, 48))


def make_requests(num_groups: int = 6, sampling: Sampling | None = None) -> list[Request]:
    """Groups of four, of prompts of unlike lengths."""
    prompts = [
        make_prompt(ordinal, token_ids=np.random.default_rng(ordinal).integers(3, 40, 8 + ordinal).tolist())
        for ordinal in range(num_groups)
    ]
    return [
        Request(
            prompt=prompt,
            sample_index=index,
            seed=100 * prompt.ordinal + index,
            sampling=sampling or Sampling(max_tokens=48),
        )
        for prompt in prompts
        for index in range(4)
    ]


def answers(engine: Engine, requests: list[Request], after_first: Callable[[], None] = lambda: None) -> Named:
    """Every answer by its request; ``after_first`` is called when one has come."""
    named: Named = {}
    for completion in engine.sample(requests):
        key = completion.prompt.ordinal, completion.sample_index
        assert key not in named, "answered twice"
        named[key] = completion
        if len(named) == 1:
            after_first()
    assert len(named) == len(requests), "an answer was lost"
    return named


def assert_same(ours: Named, theirs: Named, *, atol: float = 0.0) -> None:
    """``atol``: of log-probabilities: with several threads in one of the two, another batch adds up otherwise."""
    assert ours.keys() == theirs.keys()
    for key, completion in ours.items():
        np.testing.assert_array_equal(completion.token_ids, theirs[key].token_ids)
        np.testing.assert_allclose(completion.behavior_logprobs, theirs[key].behavior_logprobs, rtol=0, atol=atol)
        assert completion.finish_reason == theirs[key].finish_reason
        assert completion.version == theirs[key].version


def publish_changed(learner: Policy, engines: Sequence[Engine], version: int) -> int:
    """Change the weights a little, publish them to each engine and prove it; returns the version."""
    generator = torch.Generator().manual_seed(version)
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.mul_(1 + 0.02 * torch.randn(parameter.shape, generator=generator))
    for engine in engines:
        publication = Publisher(learner, engine, [PROBE], exact=True).publish(version)
        assert publication.probe_difference < FP32_TOLERANCE
    return version
