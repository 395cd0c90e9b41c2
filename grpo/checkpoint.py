"""Checkpoints: written beside the old ones, flushed, renamed, verified. A crash at any instant leaves whole ones.

    checkpoints/
      step-00000080/        a model folder (config.json, model.safetensors, tokenizer) that transformers and
        ...                 `vllm serve` load as it is
        trainer_state/      tensors.safetensors + state.json: what --resume needs beyond the weights
        manifest.json       size and sha256 of every file, and its own
      step-00000100/
      latest                the newest one's name, for people and scripts

A checkpoint is complete when its folder bears its final name and every file matches the manifest. ``latest`` is a
convenience: what counts is read from the folders themselves.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from grpo.buckets import buckets
from grpo.errors import CheckpointError, UserError

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"
LATEST = "latest"
TENSORS = "tensors.safetensors"  # and more of them, numbered, where one would grow past FILE_BYTES
FILE_BYTES = 1 << 30
STATE = "state.json"

_NAME = re.compile(r"step-(\d{8,})")
_WRITING = ".writing-"  # a checkpoint that is not finished
_REPLACED = ".replaced-"  # one of the same step, moved aside for the instant of the exchange


class CheckpointStore:
    """The checkpoints of one run, seen by the one process that writes them. Readers use ``newest_complete``.

    Opening removes what an interrupted save left behind.

    Args:
        keep: how many checkpoints stay, the newest first.

    Attributes:
        damaged: one sentence for each checkpoint that the last ``latest()`` passed over.

    Raises:
        CheckpointError: the folder cannot be made or cleaned.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        assert keep >= 1, "the recipe's schema allows no other"
        self.folder, self.keep = folder, keep
        self.newest_step: int | None = None  # of those that this process has saved
        self.damaged: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
        except OSError as error:
            raise CheckpointError(f"checkpoint folder {folder}: {error.strerror}. Make it writable") from error

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Save one checkpoint whose content ``write`` puts into the folder it is given.

        The new checkpoint is on the disk, and verified to be readable, before an old one goes. One of the same
        step is replaced.

        Raises:
            CheckpointError: the disk is full or refuses; nothing of the new checkpoint is left then, and the older
                ones are as they were. Any other exception of ``write`` passes through, with the same promise.
        """
        final = self.folder / f"step-{step:08d}"
        writing, pointer = self.folder / f"{_WRITING}{final.name}", self.folder / f"{_WRITING}{LATEST}"
        written = 0
        try:
            writing.mkdir()
            try:
                write(writing)
                _write_manifest(writing, step)
                _write_flushed(pointer, final.name + "\n")  # space is found now; what follows only renames
                _flush_tree(writing)
                _move_into_place(writing, final)
                pointer.replace(self.folder / LATEST)
                _flush(self.folder)
                self.newest_step = step
            finally:  # also on KeyboardInterrupt
                written = _num_bytes(writing)
                shutil.rmtree(writing, ignore_errors=True)
                pointer.unlink(missing_ok=True)
            self._remove_oldest(step)
        except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
            raise CheckpointError(self._refusal(final, written, error)) from error
        return final

    def latest(self) -> Path | None:
        """The newest complete checkpoint, every byte verified; what it passed over is told in ``damaged``."""
        self.damaged.clear()
        return newest_complete(self.folder, self.damaged.append)

    def _remove_oldest(self, step: int) -> None:
        """Keep the newest ``keep`` up to ``step``, the one just saved.

        Later steps can only be damaged ones that resuming passed over; they neither count nor push out whole ones.
        """
        older = [path for saved, path in _steps(self.folder) if saved <= step]
        for path in older[self.keep :]:
            (path / MANIFEST).unlink(missing_ok=True)  # first, so that half a removal is no checkpoint
            shutil.rmtree(path, ignore_errors=True)  # what a network disk still holds goes at the next save

    def _refusal(self, final: Path, written: int, error: Exception) -> str:
        newest = next((_num_bytes(path) for _, path in _steps(self.folder)), 0)
        free = shutil.disk_usage(self.folder).free
        return (
            f"checkpoint {final} could not be written: {error}. It needs at least {max(written, newest):,} bytes, and "
            f"{free:,} are free there (a quota may allow less); the older checkpoints are whole. Free some space, "
            "lower checkpoint.keep or set another output_dir, then go on with --resume"
        )


def newest_complete(folder: Path, report: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest checkpoint in ``folder`` whose every file has the size and hash of its manifest, or None.

    Writes nothing, so it may run beside the process that saves. Each damaged one it passes over is told to
    ``report`` in a sentence.
    """
    for _, path in _steps(folder):
        fault = find_fault(path)
        if fault is None:
            return path
        report(f"checkpoint {path} is damaged and was passed over: {fault}")
    return None


def complete_steps(folder: Path) -> dict[int, Path]:
    """The checkpoints in ``folder`` that are whole, every byte verified, by step."""
    return {step: path for step, path in reversed(_steps(folder)) if find_fault(path) is None}


def verify(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Each checkpoint of a run folder, or the one that ``folder`` is, with its fault, or None where it is whole.

    Raises:
        UserError: there is none.
    """
    own = [path for _, path in reversed(_steps(folder / "checkpoints") or _steps(folder))]
    if not own and not (folder / MANIFEST).is_file() and not _NAME.fullmatch(folder.name):
        raise UserError(f"'{folder}' is no checkpoint and holds none: name a run folder, or one of its checkpoints")
    for path in own or [folder]:
        yield path, find_fault(path)


def find_fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None. Sizes are compared first: they are cheap, and catch most."""
    try:
        content = (checkpoint / MANIFEST).read_bytes()
        manifest = json.loads(content)
        files = manifest["files"]
        for name, entry in files.items():
            size = (checkpoint / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes, the manifest says {entry['bytes']}"
        for name, entry in files.items():
            if _sha256(checkpoint / name) != entry["sha256"]:
                return f"{name} does not have the hash that the manifest says"
        if content != _manifest(manifest["step"], manifest["saved_at"], files):
            return f"{MANIFEST} does not have its own hash"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    return None


def save_state(folder: Path, tensors: Iterable[tuple[str, "torch.Tensor"]], state: dict[str, Any]) -> None:
    """Write tensors of any dtype (safetensors) and a JSON state; ``load_state`` gives both back bit for bit.

    Tensors may come from a generator: those of one file, about 1 GiB, are held at a time.

    Raises:
        TypeError: the state holds what JSON would change (a tuple, a key that is not text, an array).
    """
    from safetensors.torch import save_file

    _check_survives_json(state, "state")
    folder.mkdir(parents=True, exist_ok=True)
    files = buckets(_unshared(tensors), FILE_BYTES)
    first = next(files, [])  # there is one file, though it be empty
    for path, bucket in zip(_tensor_files(folder), itertools.chain([first], files), strict=False):
        save_file(dict(bucket), path)
        bucket.clear()  # before the next is gathered
    (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")


class StoredTensors(Mapping[str, "torch.Tensor"]):
    """What ``save_state`` wrote, each tensor read when it is asked for; it travels to other processes as file names.

    Raises:
        OSError, SafetensorError: a file is missing or is none.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._files: dict[str, Path] = {}
        for number, path in enumerate(_tensor_files(folder)):
            if number and not path.exists():
                break
            with safe_open(path, framework="pt") as file:
                self._files |= dict.fromkeys(file.keys(), path)

    def __getitem__(self, name: str) -> "torch.Tensor":
        from safetensors import safe_open

        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _tensor_files(folder: Path) -> Iterator[Path]:
    yield folder / TENSORS
    for number in itertools.count(2):
        yield folder / TENSORS.replace(".", f"-{number:05}.", 1)


def load_state(folder: Path) -> tuple[Mapping[str, "torch.Tensor"], dict[str, Any]]:
    """What ``save_state`` wrote; tensors on the CPU.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    try:
        tensors = StoredTensors(folder)
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"trainer state in {folder} cannot be read: {error}. Resume from another checkpoint of the run"
        ) from error
    return tensors, state


def _unshared(tensors: Iterable[tuple[str, "torch.Tensor"]]) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Contiguous CPU tensors of which no two share memory, as safetensors asks."""
    seen: set[int] = set()
    for name, tensor in tensors:
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != own.nbytes:
            own = own.clone()
        seen.add(storage.data_ptr())
        yield name, own


def _check_survives_json(value: object, place: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place}: the key {key!r} would become text in JSON")
            _check_survives_json(item, f"{place}[{key!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_survives_json(item, f"{place}[{index}]")
    elif type(value) not in (str, int, float, bool, type(None)):
        raise TypeError(f"{place}: a {type(value).__name__} would not come back from JSON as it is")


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{_REPLACED}*"):
        final = folder / path.name.removeprefix(_REPLACED)
        if final.exists():
            shutil.rmtree(path)
        else:  # killed between the two renames: the old one is still whole
            path.rename(final)
    for path in folder.glob(f"{_WRITING}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move_into_place(writing: Path, final: Path) -> None:
    replaced = final.with_name(f"{_REPLACED}{final.name}")
    if final.exists():
        final.rename(replaced)
    try:
        writing.rename(final)
    finally:
        if replaced.exists() and not final.exists():
            replaced.rename(final)
    _flush(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, newest first, whole or not."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)) and path.is_dir()]
    return sorted(((int(match[1]), path) for match, path in found), reverse=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder)) if folder.is_dir() else 0


def _write_manifest(folder: Path, step: int) -> None:
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in _files(folder)
    }
    saved_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    (folder / MANIFEST).write_bytes(_manifest(step, saved_at, files))


def _manifest(step: int, saved_at: str, files: Mapping[str, object]) -> bytes:
    """Its bytes, the last line of which is the hash of all else in it."""
    content: dict[str, object] = {"step": step, "saved_at": saved_at, "files": files}
    own = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (json.dumps(content | {"sha256": own}, indent=1) + "\n").encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_flushed(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _flush(path)


def _flush_tree(folder: Path) -> None:
    """Files first, then the directories that name them, innermost first."""
    for path in _files(folder):
        _flush(path)
    for directory in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        _flush(directory)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
