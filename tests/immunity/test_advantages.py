"""Advantages against the wrong answers. The guard is the independent reference of ``tests/unit/test_objective.py``."""

import numpy as np
import pytest

import tests.unit.test_objective as reference
from grpo import advantages
from grpo.advantages import Rewards
from tests.unit.ragged_answers import make_answers

RLOO = {"baseline": "leave_one_out", "scale_rewards": "none", "importance_sampling_correction": False}
GRPO = {"importance_sampling_correction": False}


def others_of_the_step(rewards: Rewards) -> np.ndarray:
    """The mean of all answers but this one, whichever problem they are to."""
    return (rewards.step.sum() - rewards.group) / (len(rewards.step) - 1)


def a_group_of_its_own(rewards: Rewards) -> np.ndarray:
    """As if each answer had a group id of its own."""
    return rewards.group


def others_of_its_half(rewards: Rewards) -> np.ndarray:
    """As if the group had been shared out between two processes."""
    halves = np.array_split(rewards.group, 2)
    return np.concatenate([np.full(len(half), half.mean()) for half in halves])


@pytest.mark.parametrize(
    ("name", "keys", "wrong"),
    [
        ("leave_one_out", RLOO, others_of_the_step),
        ("leave_one_out", RLOO, a_group_of_its_own),
        ("group", GRPO, a_group_of_its_own),
        ("group", GRPO, others_of_its_half),
    ],
)
def test_a_baseline_of_other_answers_than_the_groups_is_not_the_reference(
    name: str, keys: dict[str, object], wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = make_answers()
    reference.check(answers, keys)
    monkeypatch.setitem(advantages.BASELINES, name, wrong)
    with pytest.raises(AssertionError):
        reference.check(answers, keys)
