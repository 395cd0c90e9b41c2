"""Who answers what: groups whole, loads level, nothing lost and nothing twice."""

import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from grpo.engine.protocol import Request, Sampling
from grpo.engine.replica import Answer
from grpo.engine.sampling_round import SamplingRound
from tests.factories import make_prompt

NAMES = ("engine-0", "engine-1", "engine-2")


def requests(prompt_lengths: Sequence[int], group_size: int = 4, max_tokens: int = 10) -> list[Request]:
    return [
        Request(
            prompt=make_prompt(ordinal, token_ids=range(length)),
            sample_index=index,
            seed=100 * ordinal + index,
            sampling=Sampling(max_tokens=max_tokens),
        )
        for ordinal, length in enumerate(prompt_lengths)
        for index in range(group_size)
    ]


def answer(key: int, busy_s: float = 0.5) -> Answer:
    return Answer(
        key=key,
        token_ids=np.array([key, 7]),
        behavior_logprobs=np.array([-0.5, -1.0], np.float32),
        version=3,
        finish_reason="stop",
        busy_s=busy_s,
    )


def cost(asked: Sequence[Request], keys: Sequence[int]) -> int:
    return sum(len(asked[key].prompt.token_ids) + asked[key].sampling.max_tokens for key in keys)


def test_groups_stay_whole_and_every_request_is_shared_out_once() -> None:
    asked = requests(np.random.default_rng(0).integers(1, 60, 31).tolist())
    shares = SamplingRound(1, asked).shares(range(len(asked)), NAMES)
    assert sorted(key for share in shares.values() for key in share) == list(range(len(asked)))
    homes = {(asked[key].prompt.ordinal, name) for name, share in shares.items() for key in share}
    assert len(homes) == 31, "each group has one replica"


def test_shares_differ_by_no_more_than_a_group() -> None:
    asked = requests(np.random.default_rng(1).integers(1, 60, 31).tolist())
    loads = [cost(asked, share) for share in SamplingRound(1, asked).shares(range(len(asked)), NAMES).values()]
    assert max(loads) - min(loads) <= max(4 * (len(request.prompt.token_ids) + 10) for request in asked)


def test_one_long_group_stands_against_many_short_ones() -> None:
    asked = requests([90, 10, 10, 10, 10])  # 400 tokens, and four times 80
    shares = SamplingRound(1, asked).shares(range(len(asked)), NAMES[:2])
    assert sorted(shares.values()) == [[0, 1, 2, 3], list(range(4, 20))]


def test_the_same_requests_are_shared_out_the_same_way() -> None:
    asked = requests([5, 5, 9, 9, 30, 2, 2, 2])
    first, again = (SamplingRound(ticket, asked).shares(range(len(asked)), NAMES) for ticket in (1, 2))
    assert first == again


def test_what_is_still_owed_counts_as_load() -> None:
    asked = requests([10, 10, 10])
    current = SamplingRound(1, asked)
    current.owe("engine-0", range(0, 8))
    current.owe("engine-1", ())
    assert current.shares(range(8, 12), NAMES[:2]) == {"engine-1": [8, 9, 10, 11]}
    for key in range(8):
        current.settle("engine-0", answer(key), str)
    current.owe("engine-1", range(8, 12))
    assert current.shares([0], NAMES[:2]) == {"engine-0": [0]}


def test_a_lost_replica_leaves_just_what_it_has_not_answered() -> None:
    current = SamplingRound(1, requests([10, 10]))
    current.owe("engine-0", range(0, 4))
    current.owe("engine-1", range(4, 8))
    current.settle("engine-0", answer(2), str)
    assert current.release("engine-0") == [0, 1, 3]
    assert not current.owes("engine-0")
    assert current.owes("engine-1")
    assert current.release("engine-0") == []


def test_an_answer_becomes_the_completion_of_its_request_and_is_taken_once() -> None:
    asked = requests([3, 4])
    current = SamplingRound(1, asked)
    current.owe("engine-0", current.keys)
    completion = current.settle("engine-0", answer(5), lambda token_ids: "-".join(map(str, token_ids)))
    assert completion.prompt is asked[5].prompt
    assert completion.sample_index == 1
    assert completion.text == "5-7"
    assert (completion.version, completion.finish_reason) == (3, "stop")
    with pytest.raises(KeyError):
        current.settle("engine-0", answer(5), str)


def test_imbalance_is_longest_over_mean() -> None:
    current = SamplingRound(1, requests([3, 4]))
    assert current.imbalance() == 1.0
    current.owe("engine-0", range(4))
    current.owe("engine-1", range(4, 8))
    current.settle("engine-0", answer(0, busy_s=3.0), str)
    current.settle("engine-1", answer(4, busy_s=1.0), str)
    assert current.imbalance() == pytest.approx(1.5)


def test_no_reference_and_no_question_travels_to_a_replica() -> None:
    (request, *_) = asked = requests([5])
    sent = pickle.dumps(SamplingRound(1, asked).questions([0]))
    assert request.prompt.problem.question.encode() == b"0?"
    assert b"0?" not in sent
    assert b"reference" not in sent
    assert b"Problem" not in sent
