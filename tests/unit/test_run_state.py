"""Everything that later steps read comes back from a checkpoint: found by walking through the parts, not by a list."""

import dataclasses
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grpo.datatypes import Completion, ScoredCompletion
from grpo.recipe import Recipe
from grpo.trainer import Trainer
from tests.factories import make_scored
from tests.immunity.runs import make_trainer, run_recipe

PASSING = {  # by where it stands: why a resumed run may have another value there
    "trainer.started_at": "a clock's; max_time counts from the start of the process",
    "trainer._longest": "seconds, for max_time alone",
    "trainer._values": "of the publish before the first step; that step's own takes its place before it is logged",
    "trainer._done": "likewise",
    "trainer._scores": "for the checkpoint of the step that is done, which is not saved twice",
    "trainer.folder": "files, whose lengths are compared",
    "trainer.metrics": "sinks, which only write",
    "trainer.console": "it only shows",
    "trainer.publisher._learner": "the learner once more",
    "trainer.checkpoints.longest_s": "seconds, for max_time alone",
    "trainer.checkpoints._thread": "of the last save",
}


def recipe() -> Recipe:
    """A reference that moves, two updates a step, refilling, and groups that wait for their step."""
    made = run_recipe(max_steps=8, max_refill_groups=2)
    moving = {"beta": 0.1, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.5, "num_minibatches": 2}
    return made.model_copy(update={"algorithm": made.algorithm.model_copy(update=moving)})


def score_most(completions: Iterable[Completion], _group_size: int) -> list[ScoredCompletion]:
    """A group now and then that scores alike, and an answer now and then without a score."""
    return [make_scored(answer, _reward(answer)) for answer in completions]


def _reward(answer: Completion) -> float | None:
    if answer.prompt.ordinal % 5 == 1:
        return 1.0
    if answer.prompt.ordinal % 5 == 2 and answer.sample_index == 0:
        return None
    return float(answer.token_ids.sum() % 7)


def leaves(value: object, path: str = "trainer") -> Iterator[tuple[str, object]]:
    """Every value below one, by where it stands: attributes of our own objects, items of containers, tensors."""
    if path in PASSING or callable(value):
        return
    for name, item in _items(value):
        yield from leaves(item, f"{path}.{name}")
    if not isinstance(value, dict | list | tuple | set) and not type(value).__module__.startswith("grpo"):
        yield path, value


def _items(value: Any) -> Iterable[tuple[object, object]]:
    if isinstance(value, torch.nn.Module | torch.optim.Optimizer):
        return value.state_dict().items()
    if isinstance(value, Mapping | types.MappingProxyType):
        return value.items()
    if isinstance(value, list | tuple | set):
        return enumerate(value)
    if not type(value).__module__.startswith("grpo"):
        return ()
    if dataclasses.is_dataclass(value):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    return vars(value).items()


def differences(one: Trainer, other: Trainer) -> list[str]:
    """Where two trainers are not the same to the bit."""
    ours, theirs = dict(leaves(one)), dict(leaves(other))
    return sorted(
        {path for path in ours.keys() & theirs.keys() if not same(ours[path], theirs[path])}
        | (ours.keys() ^ theirs.keys())
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, float) and np.isnan(one):
        return bool(np.isnan(other))
    if type(one).__module__ in ("builtins", "pathlib"):
        return bool(one == other)
    return type(one) is type(other)


@pytest.fixture
def both(tmp_path: Path, dense_folder: Path) -> Iterator[tuple[Trainer, Trainer]]:
    """A trainer after three steps and a checkpoint, and one that goes on from that checkpoint."""
    path = tmp_path / "run"
    gone = make_trainer(path, dense_folder, recipe(), score_all=score_most)
    assert list(gone.replay(until=3)) == [1, 2, 3]
    gone.save()
    gone.checkpoints.wait()
    resumed = make_trainer(path, dense_folder, recipe(), resume=True, score_all=score_most)
    resumed._publish()  # as it begins
    yield gone, resumed
    for trainer in (gone, resumed):
        trainer.metrics.close()
        trainer.console.close()
        trainer.folder.close()


def test_a_restored_trainer_has_every_value_that_the_saved_one_has(both: tuple[Trainer, Trainer]) -> None:
    gone, resumed = both
    assert differences(gone, resumed) == []
    assert gone.folder.positions() == resumed.folder.positions()
    known = dict(leaves(gone))
    assert known["trainer.learner.optimizer.num_updates"] == 6
    assert known["trainer.buffer.next_ordinal"] == gone.folder.ledger.num_lines() + len(gone.buffer.ready)
    assert [answers for _, answers in gone.progress.unscored] != []
    assert sum(unscored for unscored, _ in gone.progress.unscored) > 0
    assert gone.buffer.ready, "groups wait for their step"
    assert any(".rewards_G" in path for path in known)
    reference, policy = (
        gone.learner.reference.model.state_dict(),  # type: ignore[union-attr]
        gone.learner.policy.model.state_dict(),
    )
    assert not any(torch.equal(reference[name], policy[name]) for name in reference if "norm" not in name)


def _move_reference(trainer: Trainer) -> None:
    assert trainer.learner.reference is not None
    with torch.no_grad():
        next(trainer.learner.reference.model.parameters()).view(-1)[0] += 1e-6


def _move_moment(trainer: Trainer) -> None:
    next(iter(trainer.learner.optimizer._adamw.state.values()))["exp_avg_sq"].view(-1)[0] += 1e-12


def _drop_waiting(trainer: Trainer) -> None:
    trainer.buffer.ready.popitem()


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda trainer: trainer.progress.unscored.pop(), "trainer.progress.unscored"),
        (lambda trainer: setattr(trainer.buffer, "num_fresh", 0), "trainer.buffer.num_fresh"),
        (lambda trainer: setattr(trainer.publisher, "tolerance", 0.2), "trainer.publisher.tolerance"),
        (_move_reference, "trainer.learner.reference"),
        (_move_moment, "trainer.learner.optimizer._adamw.state"),
        (_drop_waiting, "trainer.buffer.ready"),
    ],
)
def test_a_value_that_did_not_come_back_is_found(
    both: tuple[Trainer, Trainer], spoil: Callable[[Trainer], object], place: str
) -> None:
    gone, resumed = both
    spoil(resumed)
    found = differences(gone, resumed)
    assert found
    assert [path for path in found if not path.startswith(place)] == []


def test_what_was_excused_is_there() -> None:
    """An excuse outlives its reason otherwise."""
    names = {field.name for field in dataclasses.fields(Trainer)}
    assert {path.split(".")[1] for path in PASSING} <= names
