"""Checkpoints: whole or absent at every instant, verified before use, exact to the bit."""

import json
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from grpo.checkpoint import find_fault, newest_complete, verify
from grpo.checkpoint_store import CheckpointStore, Retention
from grpo.errors import CheckpointError, UserError


def write_model(folder: Path, content: str = "weights") -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(content * 100)
    (folder / "trainer_state").mkdir()
    (folder / "trainer_state" / "state.json").write_text("{}")


def saved(store: CheckpointStore, step: int, write: Callable[[Path], object], **more: float) -> Path:
    """Save, and wait for what goes on in the background."""
    path = store.save(step, write, **more)
    store.wait()
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", retention=Retention(keep=2))


def test_a_saved_checkpoint_is_complete_and_latest(store):
    path = saved(store, 100, write_model)
    assert path == store.folder / "step-00000100"
    assert store.latest() == path
    assert names(store.folder) == ["latest", "step-00000100"]
    assert (store.folder / "latest").read_text() == "step-00000100\n"
    assert names(path) == ["config.json", "manifest.json", "model.safetensors", "trainer_state"]


def test_the_manifest_lists_every_file_and_hashes_no_time(store):
    first = json.loads((saved(store, 1, write_model) / "manifest.json").read_text())
    second = json.loads((saved(store, 2, write_model) / "manifest.json").read_text())
    assert sorted(first["files"]) == ["config.json", "model.safetensors", "trainer_state/state.json"]
    assert first["files"] == second["files"]
    assert (first["step"], second["step"]) == (1, 2)


def test_no_checkpoint_yet(store, tmp_path):
    assert store.latest() is None
    assert newest_complete(tmp_path / "nowhere") is None


def test_the_oldest_beyond_keep_go(store):
    for step in (1, 2, 3, 10):
        saved(store, step, write_model)
    assert names(store.folder) == ["latest", "step-00000003", "step-00000010"]


def test_steps_order_as_numbers_beyond_eight_digits(store):
    saved(store, 99_999_999, write_model)
    newest = saved(store, 100_000_000, write_model)
    assert store.latest() == newest


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: flip(path / "model.safetensors"), "model.safetensors does not have the hash"),
        (lambda path: (path / "model.safetensors").write_text("short"), "model.safetensors has 5 bytes"),
        (lambda path: (path / "trainer_state/state.json").unlink(), "state.json: No such file"),
        (lambda path: (path / "manifest.json").unlink(), "manifest.json: No such file"),
        (lambda path: (path / "manifest.json").write_text('{"files": {"a'), "manifest.json cannot be read"),
        (lambda path: (path / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
        (lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\x00"), "manifest.json cannot be read"),
        (lambda path: (path / "manifest.json").write_text('{"files": {"config.json": 3}}'), "cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_told(store, damage, fault):
    whole = saved(store, 1, write_model)
    damaged = saved(store, 2, write_model)
    damage(damaged)
    assert store.latest() == whole
    assert len(store.damaged) == 1
    assert str(damaged) in store.damaged[0]
    assert fault in store.damaged[0]
    assert store.latest() == whole
    assert len(store.damaged) == 1  # told anew, not twice


def test_a_damaged_later_one_never_pushes_out_a_whole_one(tmp_path):
    store = CheckpointStore(tmp_path, retention=Retention(keep=1))
    flip(saved(store, 100, write_model) / "model.safetensors")
    resumed = CheckpointStore(tmp_path, retention=Retention(keep=1))
    assert resumed.latest() is None
    path = saved(resumed, 90, write_model)
    assert resumed.latest() == path
    assert resumed.latest() == path
    path = saved(resumed, 100, write_model)  # the damaged one's turn comes again
    assert resumed.latest() == path
    assert resumed.damaged == []
    assert names(tmp_path) == ["latest", "step-00000100"]


def test_saving_a_step_again_replaces_it(store):
    saved(store, 5, write_model)
    path = saved(store, 5, lambda folder: write_model(folder, "other"))
    assert (path / "model.safetensors").read_text() == "other" * 100
    assert store.latest() == path
    assert names(store.folder) == ["latest", "step-00000005"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_an_interrupted_save_leaves_nothing_and_passes_through(store, error):
    saved(store, 1, write_model)
    before = snapshot(store.folder)

    def interrupted(folder: Path) -> None:
        write_model(folder)
        raise error

    with pytest.raises(error):
        saved(store, 2, interrupted)
    assert snapshot(store.folder) == before
    assert names(store.folder) == ["latest", "step-00000001"]


def test_opening_removes_leftovers_and_only_those(store):
    path = saved(store, 1, write_model)
    (store.folder / ".writing-step-00000002").mkdir()
    write_model(store.folder / ".writing-step-00000002")
    (store.folder / ".writing-latest").write_text("step-0")
    (store.folder / "notes.txt").write_text("mine")
    assert newest_complete(store.folder) == path
    assert (store.folder / ".writing-step-00000002").exists()  # a reader removes nothing
    CheckpointStore(store.folder, retention=Retention(keep=2))
    assert names(store.folder) == ["latest", "notes.txt", "step-00000001"]


def test_killed_in_the_middle_of_a_replacement_the_old_one_comes_back(store):
    path = saved(store, 1, write_model)
    path.rename(store.folder / ".replaced-step-00000001")
    reopened = CheckpointStore(store.folder, retention=Retention(keep=2))
    assert reopened.latest() == path


def test_killed_after_a_replacement_the_new_one_stays(store):
    path = saved(store, 1, lambda folder: write_model(folder, "new"))
    shutil.copytree(path, store.folder / ".replaced-step-00000001")
    reopened = CheckpointStore(store.folder, retention=Retention(keep=2))
    assert reopened.latest() == path
    assert names(store.folder) == ["latest", "step-00000001"]


SAVE_FOREVER = """
    import sys
    from pathlib import Path
    from grpo.checkpoint_store import CheckpointStore, Retention
    def write(folder):
        for index in range(8):
            (folder / f"part-{index}").write_bytes(bytes([index]) * 200_000)
    store = CheckpointStore(Path(sys.argv[1]), retention=Retention(keep=2))
    print("ready", flush=True)
    for step in range(1, 100_000):
        store.save(step, write)
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_instant_a_whole_one_is_found(tmp_path, seed):
    command = [sys.executable, "-c", textwrap.dedent(SAVE_FOREVER), tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        while not list(tmp_path.glob("step-*")):
            time.sleep(0.005)
        time.sleep(random.Random(seed).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
    store = CheckpointStore(tmp_path, retention=Retention(keep=2))
    assert store.latest() is not None
    assert store.damaged == []
    steps = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert all(path.name.startswith("step-") for path in steps)
    assert len(steps) <= 3  # one more than keep, where the kill came before the removal


def write_file(num_bytes: int):
    return lambda folder: (folder / "model.bin").write_bytes(b"x" * num_bytes) and None


def write_safetensors(num_bytes: int):
    return lambda folder: save_file({"weight": torch.zeros(num_bytes // 4)}, folder / "model.safetensors")


def write_many_small(num_bytes: int):
    def write(folder: Path) -> None:
        for index in range(num_bytes // 4096):
            (folder / f"{index}.txt").write_text("x" * 4096)

    return write


@pytest.mark.parametrize("write", [write_file, write_safetensors, write_many_small])
def test_a_full_disk_is_told_and_costs_no_older_checkpoint(small_disk, write):
    store = CheckpointStore(small_disk / "checkpoints", retention=Retention(keep=2))
    saved(store, 1, write(300_000))
    saved(store, 2, write(300_000))
    before = snapshot(store.folder)
    with pytest.raises(CheckpointError) as caught:
        saved(store, 3, write(600_000))
    message = str(caught.value)
    assert str(store.folder / "step-00000003") in message
    assert "No space left on device" in message
    needed, free = (int(word.replace(",", "")) for word in message.split() if word.replace(",", "").isdigit())
    assert needed >= 300_000
    assert free == pytest.approx(shutil.disk_usage(small_disk).free, abs=8192)
    assert "--resume" in message
    assert snapshot(store.folder) == before
    assert names(store.folder) == ["latest", "step-00000001", "step-00000002"]
    shutil.rmtree(store.folder / "step-00000001")
    assert store.latest() == store.folder / "step-00000002"
    assert saved(store, 4, write(300_000)) == store.latest()  # space was freed: the run goes on


def fill(path: Path) -> None:
    with path.open("wb", 0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_disk_full_to_the_last_byte_costs_no_older_checkpoint(small_disk):
    store = CheckpointStore(small_disk / "checkpoints", retention=Retention(keep=1))
    saved(store, 1, write_file(1000))
    before = snapshot(store.folder)

    def write(folder: Path) -> None:
        write_file(1000)(folder)
        with pytest.raises(OSError, match="No space left"):
            fill(small_disk / "filler")

    with pytest.raises(CheckpointError, match="No space left on device"):
        saved(store, 2, write)
    assert snapshot(store.folder) == before


def test_a_limit_on_file_size_is_told(tmp_path):
    script = """
        import resource, sys
        from pathlib import Path
        from grpo.checkpoint_store import CheckpointStore, Retention
        from grpo.errors import CheckpointError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        store = CheckpointStore(Path(sys.argv[1]), retention=Retention(keep=2))
        store.save(1, lambda folder: (folder / "a").write_bytes(b"x" * 50_000))
        store.wait()
        try:
            store.save(2, lambda folder: (folder / "a").write_bytes(b"x" * 150_000))
        except CheckpointError as error:
            print(error, "| left:", sorted(path.name for path in store.folder.iterdir()))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert "| left: ['latest', 'step-00000001']" in done.stdout


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file/checkpoints: Not a directory"):
        CheckpointStore(tmp_path / "file" / "checkpoints", retention=Retention(keep=1))


def test_find_fault_names_nothing_for_a_whole_one(store):
    assert find_fault(saved(store, 1, write_model)) is None


def test_every_flipped_byte_and_every_truncation_is_recognized_and_none_is_loaded(store):
    whole, path = saved(store, 1, write_model), saved(store, 2, write_model)
    files = [file for file in path.rglob("*") if file.is_file()]
    generator = random.Random(0)
    for number in range(200):
        file = files[number % len(files)]
        content = file.read_bytes()
        at = generator.randrange(len(content))
        damaged = bytearray(content)
        damaged[at] ^= 1 << generator.randrange(8)
        file.write_bytes(content[:at] if number % 5 == 0 else damaged)
        assert find_fault(path) is not None, (file.name, at)
        assert store.latest() == whole
        file.write_bytes(content)
        assert find_fault(path) is None


def test_verify_tells_of_every_checkpoint_of_a_run_or_of_one(store):
    whole, damaged = saved(store, 1, write_model), saved(store, 2, write_model)
    flip(damaged / "model.safetensors")
    run = store.folder.parent
    assert [(path, fault is None) for path, fault in verify(run)] == [(whole, True), (damaged, False)]
    assert list(verify(whole)) == [(whole, None)]
    with pytest.raises(UserError, match="is no checkpoint and holds none"):
        list(verify(whole / "trainer_state"))


def test_importing_checkpoint_imports_no_torch():
    code = "import sys, grpo.checkpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
