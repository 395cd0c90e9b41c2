"""Resuming: data skipped, answers dropped, another order. A run that was cut must become the run that was not.

The guards: a checkpoint is refused while answers are in flight; a resume is refused unless every problem that was
started has its end in the ledger or waits for its step; an interrupted run equals the uninterrupted one to the bit.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from grpo import run_state, streams, trainer
from grpo.buffer import Buffer
from grpo.errors import CheckpointError
from grpo.run_state import Progress
from tests.immunity.runs import (
    assert_every_problem_ended_once,
    assert_same_run,
    make_trainer,
    newest,
    run_recipe,
    train,
)

Restore = Callable[[Any, Buffer, Progress, Mapping[str, Any], Mapping[str, Any]], None]


@pytest.fixture(scope="module")
def whole(dense_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    train(make_trainer(path, dense_folder, run_recipe()))
    assert_every_problem_ended_once(path)
    return path


def resumed(whole: Path, into: Path, source: Path) -> Path:
    """The same run, killed right after its checkpoint of step 2 and resumed: what came later is not there yet."""
    shutil.copytree(whole, into)
    shutil.rmtree(newest(into))
    train(make_trainer(into, source, run_recipe(), resume=True))
    return into


def restored_badly(spoil: Callable[[Buffer], None]) -> Restore:
    def restore(learner: Any, buffer: Buffer, progress: Progress, tensors: Any, state: Any) -> None:
        run_state.restore(learner, buffer, progress, tensors, state)
        spoil(buffer)

    return restore


def test_without_a_bug_the_resumed_run_is_the_whole_run(whole: Path, tmp_path: Path, dense_folder: Path) -> None:
    path = resumed(whole, tmp_path / "run", dense_folder)
    assert_same_run(whole, path)
    assert_every_problem_ended_once(path)


def test_a_cursor_that_ran_ahead_of_training_leaves_a_gap_in_the_ledger(
    whole: Path, tmp_path: Path, dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_ahead(buffer: Buffer) -> None:
        buffer.next_ordinal += buffer.groups_per_step

    monkeypatch.setattr(trainer, "restore", restored_badly(run_ahead))
    with pytest.raises(CheckpointError, match="would be skipped"):
        resumed(whole, tmp_path / "run", dense_folder)


def test_no_checkpoint_is_taken_while_answers_are_in_flight(tmp_path: Path, dense_folder: Path) -> None:
    run = make_trainer(tmp_path / "run", dense_folder, run_recipe())
    run.save()
    run.buffer.start()
    with pytest.raises(AssertionError, match="between rounds"):
        run.save()
    assert newest(tmp_path / "run").name == "step-00000000"
    run.folder.close()


def test_dropped_groups_that_waited_for_their_step_leave_a_gap_in_the_ledger(
    whole: Path, tmp_path: Path, dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(buffer: Buffer) -> None:
        assert buffer.ready
        buffer.ready.clear()

    monkeypatch.setattr(trainer, "restore", restored_badly(drop))
    with pytest.raises(CheckpointError, match="would be skipped"):
        resumed(whole, tmp_path / "run", dense_folder)


def test_another_order_of_the_data_after_resuming_is_another_run(
    whole: Path, tmp_path: Path, dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = streams._epoch_order(0, 0, 40)
    monkeypatch.setattr(streams, "_epoch_order", lambda _seed, _epoch, _size: order[::-1])
    path = resumed(whole, tmp_path / "run", dense_folder)
    assert_every_problem_ended_once(path)  # the ordinals are right, and the problems at them are others
    with pytest.raises(AssertionError):
        assert_same_run(whole, path)
