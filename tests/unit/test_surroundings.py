"""Packages and data are part of a run: another version, or another problem, is named before it goes on."""

import dataclasses

import pytest

from grpo.data import Dataset
from grpo.datatypes import Problem
from grpo.errors import CheckpointError
from grpo.streams import Shuffled
from grpo.surroundings import check_same, surroundings

PROBLEMS = tuple(Problem(problem_id=f"p/{i}", question=f"{i} + 1?", reference=str(i + 1)) for i in range(5))
DATASET = Dataset(
    train=Shuffled(problems=PROBLEMS[:3], seed=0), held_out=PROBLEMS[3:], num_excluded=0, excluded=(), num_duplicates=0
)


def test_they_name_packages_and_both_parts_of_the_data() -> None:
    found = surroundings(DATASET)
    assert found["package torch"].startswith("2.")
    assert found == surroundings(DATASET)
    other = dataclasses.replace(PROBLEMS[3], reference="44")
    changed = surroundings(dataclasses.replace(DATASET, held_out=(other, PROBLEMS[4])))
    assert {name for name in found if found[name] != changed[name]} == {"data.held_out"}


def test_the_order_of_the_training_data_counts() -> None:
    turned = dataclasses.replace(DATASET, train=Shuffled(problems=PROBLEMS[2::-1], seed=0))
    assert surroundings(turned)["data.train"] != surroundings(DATASET)["data.train"]


def test_each_change_is_named_and_may_be_allowed() -> None:
    before, now = {"package torch": "2.12", "data.train": "a"}, {"package torch": "2.13", "data.train": "b"}
    with pytest.raises(CheckpointError, match="data.train was a and is b; package torch was 2.12 and .*--allow-c"):
        check_same(before, now, allow_change=False)
    assert len(check_same(before, now, allow_change=True)) == 2


@pytest.mark.parametrize("before", [{"package torch": "2.13"}, {}])
def test_the_same_and_a_checkpoint_that_does_not_say_are_let_pass(before: dict[str, str]) -> None:
    assert check_same(before, {"package torch": "2.13"}, allow_change=False) == []
