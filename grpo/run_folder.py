"""The run folder: the resolved recipe and five append-only files, readable while the run goes on.

    runs/quickstart/
      recipe.yaml         the resolved recipe
      data.json           what was read of each source, and fingerprints (see surroundings.py)
      metrics.jsonl       one line per logged step
      transcripts.jsonl   sampled answers with their verdicts
      ledger.jsonl        one line per group: how it ended
      evaluations.jsonl   held-out results
      chain.jsonl         one line per step: hashes of all that it did (see chain.py)
      checkpoints/        see checkpoint.py
      logs/               what engines and learner ranks in processes of their own wrote

Whoever reads a file that is being written takes the lines that end in a newline. Each is appended in one write, and
none is ever changed; but the kernel shows a write page by page, so that a read amid it can end within the last line.

A checkpoint records how long each file was (``positions``). Resuming cuts each file back to that length, so what
was written after the checkpoint is written again, not twice.
"""

import difflib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo.errors import CheckpointError, RunError, UserError

RECIPE = "recipe.yaml"
DATA = "data.json"
FILES = ("metrics", "transcripts", "ledger", "evaluations", "chain")

# Valid inside a JSON string, yet `str.splitlines` breaks at the first three, and lone surrogates have no UTF-8.
_UNSAFE = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


_LONGEST_LINE = 1 << 16  # bytes, of the files whose last line is read
_PAGE = 4096  # bytes that the kernel lets a reader see at once: a line that crosses two of them may be seen in half
_ROOM = 1.1  # of the longest line so far: what the next one is given


def to_line(record: object) -> bytes:
    """One line of JSON. Numpy values become plain ones; NaN and infinities become null.

    Raises:
        TypeError: a value has no JSON form.
    """
    text = json.dumps(_plain(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode() + b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of one of a run's files, as far as it is written; none where it is not there yet.

    Raises:
        UserError: a line is no JSON object.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Name a run folder that you may read") from error
    records = []
    whole, _, _ = content.rpartition(b"\n")  # what comes behind is being written
    for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
        try:
            records.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number}: no JSON object ({error}). Remove that line") from error
    return records


def nearest_run(path: Path) -> Path | None:
    """The run folder beside ``path`` whose name is most like its own; None where none is like it."""
    if not path.parent.is_dir():
        return None
    names = [other.parent.name for other in path.parent.glob(f"*/{RECIPE}") if other.parent != path]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return path.parent / near[0] if near else None


class JsonLines:
    """An append-only file of one JSON object per line, which a reader finds whole at any instant.

    A line lies within one page of memory, the line before it ending in as many spaces as that takes: room for the
    longest so far and a tenth more. Lines near a page's length or beyond may be seen half written: a line counts from
    its newline on.

    Raises:
        UserError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}. Make it writable, or set output_dir") from error
        self._longest = self._longest_line()

    def append(self, record: Mapping[str, object]) -> None:
        """Write one record as one line. Numpy values become plain ones; NaN and infinities become null.

        Raises:
            RunError: the disk is full or the file cannot be written; the file then ends in a whole line.
            TypeError: a value has no JSON form.
        """
        line = to_line(record)
        start = self.position()
        if len(line) <= _PAGE:
            self._longest = max(self._longest, len(line))
        left = -(start + len(line)) % _PAGE
        if left < _ROOM * self._longest <= _PAGE:
            line = line[:-1] + b" " * left + b"\n"
        try:
            while line:  # a nearly full disk takes a part and refuses the rest
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            os.ftruncate(self._fd, start)
            raise RunError(
                f"cannot append to {self.path}: {error.strerror}. Free some space (a limit on file size counts too) "
                "and go on from the last checkpoint with --resume"
            ) from error

    def position(self) -> int:
        """The file's length in bytes."""
        return os.fstat(self._fd).st_size

    def read(self, start: int, end: int) -> bytes:
        """Its bytes from ``start`` to ``end``."""
        return os.pread(self._fd, end - start, start)

    def last(self) -> dict[str, Any] | None:
        """The record of its last line; None while it is empty."""
        end = self.position()
        tail = self.read(max(0, end - _LONGEST_LINE), end).splitlines()
        record: dict[str, Any] | None = json.loads(tail[-1]) if tail else None
        return record

    def num_lines(self) -> int:
        return self.path.read_bytes().count(b"\n")

    def truncate(self, position: int) -> None:
        """Cut the file back to ``position`` bytes.

        Raises:
            CheckpointError: the file is shorter than that, so lines that the checkpoint knows of are lost.
        """
        if self.position() < position:
            raise CheckpointError(
                f"{self.path} has {self.position()} bytes, and the checkpoint was taken when it had {position}: lines "
                "are missing. Put the whole file back, or start anew in another output_dir"
            )
        os.ftruncate(self._fd, position)
        self._longest = self._longest_line()

    def sync(self) -> None:
        """Bring what was written to the disk itself.

        Raises:
            RunError: the disk refused.
        """
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise RunError(f"cannot flush {self.path}: {error.strerror}. Free some space, then --resume") from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _longest_line(self) -> int:
        """Of those that fit a page, without their spaces: a resumed run goes on padding as the whole one does."""
        with self.path.open("rb") as file:
            lengths = (len(line.rstrip()) + 1 for line in file)
            return max((length for length in lengths if length <= _PAGE), default=0)


class RunFolder:
    """Creates or opens a run folder.

    Args:
        path: the recipe's ``output_dir``.
        resume: go on with a run that is there. A folder without a run is started afresh, so that one command line
            serves a job that is started again and again.

    Raises:
        UserError: the folder already holds a run (or other files) and ``resume`` is off; or it holds files that no
            run wrote; or it cannot be made.

    Attributes:
        is_new: no run was there before.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        _check_free_to_use(path, resume)
        self.is_new = not (path / RECIPE).is_file()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"output_dir '{path}' cannot be made: {error.strerror}. Set another output_dir") from error
        self.metrics, self.transcripts, self.ledger, self.evaluations, self.chain = (
            JsonLines(path / f"{name}.jsonl") for name in FILES
        )

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """For what processes write that the run starts beside its own."""
        return self.path / "logs"

    def write_recipe(self, text: str) -> None:
        """Replace ``recipe.yaml``, in one move.

        Raises:
            RunError: the disk is full; the file is then as it was.
        """
        self._replace(RECIPE, text)

    def write_data(self, record: Mapping[str, object]) -> None:
        """Replace ``data.json``, as ``write_recipe``."""
        self._replace(DATA, json.dumps(_plain(record), ensure_ascii=False, allow_nan=False, indent=2) + "\n")

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write {self.path / name}: {error.strerror}. Free some space") from error

    def positions(self) -> dict[str, int]:
        """The length in bytes of each file, by name, for the checkpoint."""
        return {name: file.position() for name, file in self._files().items()}

    def sync(self) -> None:
        """Bring every line to the disk itself.

        Raises:
            RunError: the disk refused.
        """
        for file in self._files().values():
            file.sync()

    def truncate(self, positions: Mapping[str, int]) -> None:
        """Cut each file back to where a checkpoint saw it; ``{}`` (no checkpoint yet) empties them.

        Raises:
            CheckpointError: a file is shorter than the checkpoint says; none has been cut then.
        """
        files = self._files()
        for name in sorted(files, key=lambda name: files[name].position() >= positions.get(name, 0)):
            files[name].truncate(positions.get(name, 0))  # those too short come first, and raise

    def close(self) -> None:
        for file in self._files().values():
            file.close()

    def remove_if_unused(self) -> None:
        """Take away a folder in which nothing was recorded: a start that failed leaves nothing behind."""
        self.close()
        own = (self.path / RECIPE, self.path / DATA)
        if any(_has_content(file) for file in self.path.rglob("*") if file not in own):
            return
        shutil.rmtree(self.path, ignore_errors=True)

    def _files(self) -> dict[str, JsonLines]:
        return {name: getattr(self, name) for name in FILES}


def _check_free_to_use(path: Path, resume: bool) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"output_dir '{path}' is a file, not a folder: set another output_dir")
    is_run = (path / RECIPE).is_file()
    if resume and is_run:
        return
    # a run that recorded nothing leaves these and empty files
    own = {path / name for kept in (RECIPE, DATA) for name in (kept, f".{kept}.tmp")}
    content = next((file for file in path.rglob("*") if file not in own and _has_content(file)), None)
    if content is None:
        return
    if not resume and is_run:
        raise UserError(f"output_dir '{path}' already holds a run: go on with it (--resume), or set another output_dir")
    raise UserError(
        f"output_dir '{path}' holds files that no run wrote ('{content.relative_to(path)}'): set another output_dir"
    )


def _has_content(file: Path) -> bool:
    return file.is_symlink() or (file.is_file() and file.stat().st_size > 0)


def _plain(value: object) -> object:
    """The JSON form of a record's value."""
    if hasattr(value, "tolist"):  # numpy's, whose import is slow
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
