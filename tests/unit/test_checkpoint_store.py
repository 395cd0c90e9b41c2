"""Saving in the background, and which checkpoints stay."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from grpo import checkpoint_store
from grpo.checkpoint import find_fault
from grpo.checkpoint_store import CheckpointStore, Retention
from grpo.errors import CheckpointError, RecipeError
from grpo.recipe import SHIPPED, load_recipe


def write(folder: Path) -> None:
    (folder / "model.safetensors").write_text("weights" * 100)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def leave_with(error: BaseException, store: CheckpointStore, step: int) -> None:
    with store:
        store.save(step, write)
        raise error


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Saves stop before they flush until this is set."""
    release, real = threading.Event(), checkpoint_store._flush_tree

    def flush_tree(folder: Path) -> None:
        assert_set(release)
        real(folder)

    monkeypatch.setattr(checkpoint_store, "_flush_tree", flush_tree)
    return release


def test_a_step_goes_on_while_its_checkpoint_is_flushed(tmp_path: Path, held: threading.Event) -> None:
    store = CheckpointStore(tmp_path, retention=Retention(keep=2))
    path = store.save(1, write)
    assert store.newest_step == 1
    assert not path.exists()  # it bears its name when it is on the disk
    assert store.latest() is None
    held.set()
    store.wait()
    assert find_fault(path) is None


def test_the_next_save_waits_for_the_one_before(tmp_path: Path, held: threading.Event) -> None:
    store = CheckpointStore(tmp_path, retention=Retention(keep=2))
    first = store.save(1, write)
    seen: list[bool] = []
    threading.Timer(0.05, held.set).start()
    store.save(2, lambda folder: (write(folder), seen.append(first.exists())))
    store.wait()
    assert seen == [True]
    assert steps(tmp_path) == [1, 2]


def refuse(_: Path) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("part", ["write_manifest", "_flush_tree", "_read_back", "_move_into_place"])
@pytest.mark.parametrize("ask", [CheckpointStore.wait, lambda store: store.save(3, write)])
def test_what_fails_in_the_background_is_raised_and_costs_no_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, ask: Callable[[CheckpointStore], object]
) -> None:
    store = CheckpointStore(tmp_path, retention=Retention(keep=1))
    store.save(1, write)
    store.wait()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_store, part, lambda *_: refuse(tmp_path))
        store.save(2, write)
        with pytest.raises(CheckpointError, match="step-00000002 could not be written.*No space left"):
            ask(store)
    assert store.latest() == tmp_path / "step-00000001"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]
    store.save(4, write)  # raised once: the run may go on
    store.wait()
    assert steps(tmp_path) == [4]


def test_one_that_does_not_read_back_as_written_removes_no_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, retention=Retention(keep=1))
    whole = store.save(1, write)
    store.wait()
    real = checkpoint_store._flush_tree

    def lose_a_bit(folder: Path) -> None:
        real(folder)
        file = folder / "model.safetensors"
        file.write_bytes(b"x" + file.read_bytes()[1:])

    monkeypatch.setattr(checkpoint_store, "_flush_tree", lose_a_bit)
    store.save(2, write)
    with pytest.raises(CheckpointError, match="model.safetensors does not have the hash.*disk or the memory"):
        store.wait()
    assert store.latest() == whole
    assert steps(tmp_path) == [1]


def test_leaving_waits_for_the_last_save_and_tells_of_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: threading.Event
) -> None:
    with CheckpointStore(tmp_path, retention=Retention(keep=1)) as store:
        path = store.save(1, write)
        threading.Timer(0.05, held.set).start()
    assert find_fault(path) is None
    monkeypatch.setattr(checkpoint_store, "write_manifest", lambda *_: refuse(tmp_path))
    with pytest.raises(ZeroDivisionError) as caught:
        leave_with(ZeroDivisionError(), store, 2)
    assert "step-00000002 could not be written" in caught.value.__notes__[0]


def test_a_keyboard_interrupt_waits_for_nothing(tmp_path: Path, held: threading.Event) -> None:
    store = CheckpointStore(tmp_path, retention=Retention(keep=1))
    with pytest.raises(KeyboardInterrupt):
        leave_with(KeyboardInterrupt(), store, 1)
    assert steps(tmp_path) == []
    held.set()
    store.wait()


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(keep=2), [50, 60]),
        (Retention(keep=1, every=20), [20, 40, 60]),
        (Retention(keep=1, best=max), [30, 60]),
        (Retention(keep=1, best=min), [10, 60]),
        (Retention(keep=2, every=40, best=max), [30, 40, 50, 60]),
    ],
)
def test_the_newest_some_by_step_and_the_best_stay(tmp_path: Path, retention: Retention, kept: list[int]) -> None:
    scores = {10: 0.1, 20: 0.4, 30: 0.9, 40: float("nan"), 50: 0.9 - 1e-9, 60: 0.3}
    store = CheckpointStore(tmp_path, retention=retention)
    for step, score in scores.items():
        store.save(step, write, score=score)
        store.wait()
        store = CheckpointStore(tmp_path, retention=retention)  # what stays follows from the folders alone
    assert steps(tmp_path) == kept


def test_of_two_equally_good_ones_the_later_stays(tmp_path: Path) -> None:
    assert Retention(keep=1, best=max).outlived({10: 0.5, 20: 0.5, 30: 0.1}) == [10]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["checkpoint.metric_for_best_model=rewrd"], "the nearest is 'reward'"),
        (
            ["checkpoint.metric_for_best_model=pass@1", "checkpoint.every=30", "evaluation.every=20"],
            "Set evaluation.every=30",
        ),
        (["checkpoint.metric_for_best_model=pass@1", "evaluation.every=0"], "0: only at both ends"),
    ],
)
def test_a_metric_that_no_checkpoint_would_have_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(SHIPPED / "quickstart.yaml", overrides)
    assert "checkpoint.metric_for_best_model" in str(caught.value)
    assert said in str(caught.value)


def test_a_folder_that_goes_while_it_is_saved_to_is_told(tmp_path: Path) -> None:
    folder, gone = tmp_path / "checkpoints", threading.Event()
    store = CheckpointStore(folder, retention=Retention(keep=1))
    store.save(1, write, flush_others=lambda: assert_set(gone))  # nothing more is written before that
    shutil.rmtree(folder)
    gone.set()
    with pytest.raises(CheckpointError, match="step-00000001 could not be written.*folder is not there any more"):
        store.wait()
    with pytest.raises(CheckpointError, match="step-00000002 could not be written"):
        store.save(2, write)


def test_a_folder_that_goes_while_its_size_is_counted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = tmp_path / "checkpoints", checkpoint_store.files_in
    store = CheckpointStore(folder, retention=Retention(keep=1))
    store.save(1, write)
    store.wait()

    def removed(counted: Path) -> list[Path]:
        if counted.name == "step-00000001":
            shutil.rmtree(folder)
            raise FileNotFoundError(2, "No such file or directory", str(counted))
        return real(counted)

    monkeypatch.setattr(checkpoint_store, "files_in", removed)
    store.save(2, write, flush_others=lambda: refuse(tmp_path))
    with pytest.raises(CheckpointError, match="step-00000002 could not be written.*folder is not there any more"):
        store.wait()


def test_a_step_is_saved_again_after_the_exchange_of_its_last_save_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, retention=Retention(keep=1))
    store.save(1, write)
    store.wait()
    with monkeypatch.context() as patch:
        real = checkpoint_store._flush
        patch.setattr(checkpoint_store, "_flush", lambda path: refuse(path) if path == tmp_path else real(path))
        store.save(1, write)
        with pytest.raises(CheckpointError, match="No space left"):
            store.wait()
    path = store.save(1, write)
    store.wait()
    assert find_fault(path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]
