"""Problems -> scored Groups, with an engine that answers from the seed alone."""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from grpo.datatypes import Completion, Group, Prompt, ScoredCompletion
from grpo.engine.protocol import Request, Sampling
from grpo.errors import EngineError
from grpo.recipe import Algorithm
from grpo.rollout import Rollout
from grpo.seeds import sample_seed
from grpo.weights import Receipt, Tensors
from tests.factories import make_completion, make_prompt, make_scored, make_segment, samples_of

SAMPLING = Sampling(max_tokens=8, temperature=0.7, stop_token_ids=(1,))


class SeededEngine:
    """Draws tokens by the request's seed and yields the answers in an order of its own."""

    version = 0

    def __init__(self, *, arrival: int = 0, loses: int = 0) -> None:
        self.requests: list[Request] = []
        self._arrival, self._loses = arrival, loses

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.requests += requests
        arriving = list(requests)
        random.Random(self._arrival).shuffle(arriving)
        for request in arriving[self._loses :]:
            rng = np.random.default_rng(request.seed)
            segment = make_segment(rng, int(rng.integers(1, request.sampling.max_tokens + 1)), version=self.version)
            yield make_completion(request.prompt, request.sample_index, [segment])

    def load(self, tensors: Tensors, version: int) -> Receipt:
        self.version = version
        return Receipt(version=version, hashes={name: "" for name, _ in tensors})

    def score(self, token_ids: Sequence[int]) -> np.ndarray:
        return np.zeros(len(token_ids) - 1, np.float32)

    def close(self) -> None:
        pass


def score_by_length(completion: Completion) -> ScoredCompletion:
    return make_scored(completion, float(completion.num_tokens))


def make_rollout(engine: SeededEngine, *, seed: int = 0, score=score_by_length, prompt_at=make_prompt) -> Rollout:
    return Rollout(
        engine=engine,
        prompt_at=prompt_at,
        score_all=lambda completions, group_size: [score(completion) for completion in completions],
        sampling=SAMPLING,
        num_generations=4,
        seed=seed,
    )


def tokens_of(groups: Sequence[Group]) -> dict[str, list[list[int]]]:
    return {group.group_id: [member.completion.token_ids.tolist() for member in group.members] for group in groups}


def test_each_answer_is_asked_for_by_name():
    engine = SeededEngine()
    make_rollout(engine, seed=7).sample([2, 5])
    assert [(request.prompt.ordinal, request.sample_index) for request in engine.requests] == [
        (ordinal, index) for ordinal in (2, 5) for index in range(4)
    ]
    for request in engine.requests:
        assert request.seed == sample_seed(7, f"p/{request.prompt.ordinal}", 0, request.sample_index)
        assert request.sampling == SAMPLING


def test_a_second_visit_to_a_problem_draws_other_answers():
    def second_epoch(ordinal: int) -> Prompt:
        return make_prompt(ordinal, attempt=1)

    first, second = SeededEngine(), SeededEngine()
    make_rollout(first).sample([3])
    make_rollout(second, prompt_at=second_epoch).sample([3])
    assert not {r.seed for r in first.requests} & {r.seed for r in second.requests}


def test_a_group_holds_all_answers_to_its_prompt_in_order_of_their_index():
    groups = make_rollout(SeededEngine()).sample([0, 1, 2])
    assert [group.prompt.ordinal for group in groups] == [0, 1, 2]
    for group in groups:
        assert [member.completion.sample_index for member in group.members] == [0, 1, 2, 3]
        assert {member.completion.prompt.group_id for member in group.members} == {group.group_id}
        assert group.rewards_G.tolist() == [member.completion.num_tokens for member in group.members]


@pytest.mark.parametrize("arrival", [1, 2, 3])
def test_order_of_arrival_and_company_in_the_batch_change_no_answer(arrival):
    together = tokens_of(make_rollout(SeededEngine(arrival=arrival)).sample([0, 1, 2]))
    reordered = tokens_of(make_rollout(SeededEngine()).sample([2, 0, 1]))
    alone: dict[str, list[list[int]]] = {}
    for ordinal in range(3):
        alone |= tokens_of(make_rollout(SeededEngine()).sample([ordinal]))
    assert together == reordered == alone


def test_an_answer_whose_verifier_failed_shapes_neither_mean_nor_loss():
    def score(completion: Completion) -> ScoredCompletion:
        reward = None if completion.sample_index == 2 else float(completion.sample_index)
        return make_scored(completion, reward)

    (group,) = make_rollout(SeededEngine(), score=score).sample([0])
    assert len(group.members) == 4
    assert group.rewards_G.tolist() == [0, 1, 3]
    samples = samples_of([group], Algorithm(scale_rewards="none"))
    assert [sample.sample_index for sample in samples] == [0, 1, 3]
    np.testing.assert_allclose([sample.advantage for sample in samples], [-4 / 3, -1 / 3, 5 / 3])


def test_no_problems_are_no_groups():
    assert make_rollout(SeededEngine()).sample([]) == []


def test_an_engine_that_loses_an_answer_stops_the_run():
    """Otherwise its group would stay in flight for ever."""
    with pytest.raises(EngineError, match="1 of 2 groups"):
        make_rollout(SeededEngine(loses=1)).sample([0, 1])
