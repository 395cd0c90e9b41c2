"""The checkpoints of one run, as the process that writes them sees them: saved in the background, old ones removed.

A step waits for the files to be written, no longer: the operating system has a copy of everything then. Hashing,
flushing, reading back, renaming and removing go on in a thread while the run samples on.
"""

import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from safetensors import SafetensorError

from grpo.checkpoint import (
    LATEST,
    MANIFEST,
    files_in,
    find_fault,
    newest_complete,
    saved_score,
    steps_in,
    write_manifest,
)
from grpo.errors import CheckpointError, RunError

_WRITING = ".writing-"  # a checkpoint that is not finished
_REPLACED = ".replaced-"  # one of the same step, moved aside for the instant of the exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which checkpoints stay: the newest ``keep``, each whose step ``every`` divides, and the one of the best score.

    >>> scores = {10: 0.5, 20: 0.9, 30: 0.7, 40: 0.8}
    >>> Retention(keep=1, every=30).outlived(scores), Retention(keep=1, best=max).outlived(scores)
    ([20, 10], [30, 10])
    """

    keep: int
    every: int = 0  # 0: none stays for its step
    best: Callable[[list[float]], float] | None = None  # max or min; None: none stays for its score

    def outlived(self, scores: dict[int, float | None]) -> list[int]:
        """Of steps with their scores those that may go, the newest first."""
        steps = sorted(scores, reverse=True)
        known = [score for score in scores.values() if score is not None]
        best = self.best(known) if self.best is not None and known else None
        stays = next((step for step in steps if best is not None and scores[step] == best), None)
        return [step for step in steps[self.keep :] if step != stays and not (self.every and step % self.every == 0)]


class CheckpointStore:
    """Saves and removes. Readers use ``newest_complete``; opening removes what an interrupted save left behind.

    One save is under way at a time: the next waits for it. As a context manager it waits for the last one, but not
    on a KeyboardInterrupt, which means now.

    Attributes:
        newest_step: of the checkpoints that this process has saved or is saving.
        damaged: one sentence for each checkpoint that the last ``latest()`` passed over.
        longest_s: the longest that a save took, from its first file to its new name.

    Raises:
        CheckpointError: the folder cannot be made or cleaned.
    """

    def __init__(self, folder: Path, *, retention: Retention) -> None:
        assert retention.keep >= 1, "the recipe's schema allows no other"
        self.folder, self.retention = folder, retention
        self.newest_step: int | None = None
        self.damaged: list[str] = []
        self.longest_s = 0.0
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
        except OSError as error:
            raise CheckpointError(f"checkpoint folder {folder}: {error.strerror}. Make it writable") from error

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        *,
        flush_others: Callable[[], None] = lambda: None,
        score: float = math.nan,
    ) -> Path:
        """Save one checkpoint whose content ``write`` puts, now, into the folder it is given; the rest is in the back.

        It bears its name when it is on the disk and was read back from there; only then an old one goes. One of the
        same step is replaced.

        Args:
            flush_others: brings to the disk what the checkpoint refers to; called in the background.
            score: by which the best one stays (``Retention``); NaN where there is none.

        Raises:
            CheckpointError: the save before this one failed (see ``wait``), or the disk is full or refuses; nothing
                of the new checkpoint is left then, and the older ones are as they were. Any other exception of
                ``write`` passes through, with the same promise.
        """
        self.wait()
        started = time.monotonic()
        final = self.folder / f"step-{step:08d}"
        writing = self.folder / f"{_WRITING}{final.name}"
        try:
            _remove_leftovers(self.folder)  # of a save that failed after its exchange, too late to undo it
            writing.mkdir()
            write(writing)
        except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
            raise CheckpointError(self._refusal(final, _discard(writing), error)) from error
        except BaseException:  # KeyboardInterrupt too
            _discard(writing)
            raise
        self.newest_step = step

        def finish() -> None:
            try:
                flush_others()
                self._finish(writing, final, step, score)
                self.longest_s = max(self.longest_s, time.monotonic() - started)
            except (OSError, RunError) as error:
                self._failure = CheckpointError(self._refusal(final, _discard(writing), error))
            except Exception as error:  # whatever it is, the run hears of it: nobody listens to a thread
                _discard(writing)
                self._failure = error

        self._thread = threading.Thread(target=finish, name=f"save {final.name}", daemon=True)
        self._thread.start()
        return final

    def wait(self) -> None:
        """Until no save is under way.

        Raises:
            CheckpointError: the last one failed; it is raised once.
        """
        if self._thread is not None:
            self._thread.join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what a save in the background has failed with, if one has; waits for nothing."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def latest(self) -> Path | None:
        """The newest complete checkpoint, every byte verified; what it passed over is told in ``damaged``."""
        self.damaged.clear()
        return newest_complete(self.folder, self.damaged.append)

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            return
        if self._thread is not None:
            self._thread.join()
        if kind is None:
            self.raise_failure()
        elif self._failure is not None and value is not None:
            value.add_note(str(self._failure))

    def _finish(self, writing: Path, final: Path, step: int, score: float) -> None:
        """What is left once the files are written: from the manifest to the removal of older ones."""
        pointer = self.folder / f"{_WRITING}{LATEST}"
        try:
            write_manifest(writing, step, score if math.isfinite(score) else None)
            _write_flushed(pointer, final.name + "\n")  # space is found now; what follows only renames
            _flush_tree(writing)
            _read_back(writing)
            _move_into_place(writing, final)
            pointer.replace(self.folder / LATEST)
            _flush(self.folder)
        finally:
            pointer.unlink(missing_ok=True)
        self._remove_oldest(step)

    def _remove_oldest(self, step: int) -> None:
        """Remove what may go up to ``step``, the one just saved and read back, which itself always stays.

        Later steps can only be damaged ones that resuming passed over; they neither count nor push out whole ones.
        """
        paths = {saved: path for saved, path in steps_in(self.folder) if saved <= step}
        scores = {saved: saved_score(path) for saved, path in paths.items()}
        for outlived in self.retention.outlived(scores):
            (paths[outlived] / MANIFEST).unlink(missing_ok=True)  # first, so that half a removal is no checkpoint
            shutil.rmtree(paths[outlived], ignore_errors=True)  # what a network disk still holds goes at the next save

    def _refusal(self, final: Path, written: int, error: Exception) -> str:
        try:
            newest = next((_num_bytes(path) for _, path in steps_in(self.folder)), 0)
            free = shutil.disk_usage(self.folder).free
        except OSError as gone:
            return (
                f"checkpoint {final} could not be written: {error}. Its folder is not there any more "
                f"({gone.strerror}): bring back the disk or the folder, then go on with --resume"
            )
        return (
            f"checkpoint {final} could not be written: {error}. It needs at least {max(written, newest):,} bytes, and "
            f"{free:,} are free there (a quota may allow less); the older checkpoints are whole. Free some space, "
            "lower checkpoint.keep or set another output_dir, then go on with --resume"
        )


def _read_back(folder: Path) -> None:
    """Compare what the disk holds, not what memory still does, with the manifest.

    Raises:
        OSError: it differs.
    """
    for path in files_in(folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    if (fault := find_fault(folder)) is not None:
        raise OSError(f"read back, {fault}: the disk or the memory of this machine is at fault")


def _discard(writing: Path) -> int:
    """Remove an unfinished checkpoint; returns how many bytes it had."""
    written = _num_bytes(writing)
    shutil.rmtree(writing, ignore_errors=True)
    return written


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


def _num_bytes(folder: Path) -> int:
    """How large it is; 0 where it is not there, or somebody is just removing it."""
    try:
        return sum(path.stat().st_size for path in files_in(folder))
    except FileNotFoundError:
        return 0


def _write_flushed(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _flush(path)


def _flush_tree(folder: Path) -> None:
    """Files first, then the directories that name them, innermost first."""
    for path in files_in(folder):
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
