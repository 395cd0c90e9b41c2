"""Saves, faults of the disk, kills, damage and reopening in any order: the checkpoint store keeps its promises."""

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grpo.checkpoint import MANIFEST, find_fault
from grpo.checkpoint_store import CheckpointStore, Retention
from grpo.errors import CheckpointError

Content = dict[str, bytes]
CALLS = ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir")  # of os: where a run is killed
REFUSED = ("mkdir", "rename", "replace", "fsync")  # where a disk says no
KILLED = 9

contents = st.dictionaries(
    st.sampled_from(["config.json", "model.safetensors", "trainer_state/state.json", "trainer_state/more/tensors"]),
    st.binary(max_size=40),
    min_size=1,
)
scores = st.sampled_from([math.nan, 0.1, 0.5, 0.9])


def writing(content: Content, fault: BaseException | None = None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, data in content.items():
            place = (folder / name).parent
            if not place.is_dir():  # mkdir with exist_ok keeps quiet of what the disk refuses
                place.mkdir(parents=True)
            (folder / name).write_bytes(data)
        if fault is not None:
            raise fault

    return write


def held(checkpoint: Path) -> Content:
    """What a checkpoint's folder has, without its manifest."""
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(checkpoint).as_posix(): path.read_bytes() for path in files}


@contextlib.contextmanager
def struck(names: tuple[str, ...], number: int, strike: Callable[[], None]) -> Iterator[None]:
    """Strikes before the ``number``-th call, from 0, of any of these functions of os, from whichever thread."""
    left, lock = number, threading.Lock()

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            with lock:
                left -= 1
                is_now = left == -1
            if is_now:
                strike()
            return call(*args, **kwargs)

        return counting

    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(os, name, wrapped(getattr(os, name))))
        yield


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(slots=True)
class Saved:
    """A checkpoint in the machine's books. One that is damaged has no content that may be used."""

    content: Content
    score: float | None
    damaged: bool = False


class CheckpointMachine(RuleBasedStateMachine):
    """Keeps its own books of what was saved, damaged and outlived, and compares the folder with them."""

    @initialize(keep=st.integers(1, 3), every=st.sampled_from([0, 2, 5]), best=st.sampled_from([None, max, min]))
    def open(self, keep: int, every: int, best: Callable[[list[float]], float] | None) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.keep, self.every, self.best = keep, every, best
        self.books: dict[int, Saved] = {}
        self.store = self._opened()

    def _opened(self) -> CheckpointStore:
        return CheckpointStore(self.folder, retention=Retention(keep=self.keep, every=self.every, best=self.best))

    @rule(data=st.data(), number=st.integers(1, 3))
    def save(self, data: st.DataObject, number: int) -> None:
        """Several in a row: each waits for the one before."""
        for _ in range(number):
            step, content, score = self._draw(data)
            path = self.store.save(step, writing(content), score=score)
            self._book(step, content, score)
        self.store.wait()
        assert path.name == f"step-{step:08d}"
        assert (self.folder / "latest").read_text() == f"{path.name}\n"

    @rule(data=st.data(), fault=st.sampled_from([OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError()]))
    def save_whose_content_fails(self, data: st.DataObject, fault: BaseException) -> None:
        step, content, score = self._draw(data)
        expected = CheckpointError if isinstance(fault, OSError) else type(fault)
        with pytest.raises(expected):
            self.store.save(step, writing(content, fault), score=score)
        self.store.wait()
        assert not self._leftovers()

    @rule(data=st.data(), number=st.integers(0, 12))
    def save_that_the_disk_refuses(self, data: st.DataObject, number: int) -> None:
        """Whatever call it is, the failure is told; from the rename on, the new checkpoint may stand all the same."""
        step, content, score = self._draw(data)
        calls = 0

        def refused() -> None:
            nonlocal calls
            calls += 1
            refuse()

        with struck(REFUSED, number, refused):
            try:
                self.store.save(step, writing(content), score=score)
                self.store.wait()
                told = False
            except CheckpointError as error:
                told = "No space left on device" in str(error)
        assert told == bool(calls)
        self._book_what_stands(step, content, score, finished=not told)

    @rule(data=st.data(), number=st.integers(0, 25))
    def save_and_be_killed(self, data: st.DataObject, number: int) -> None:
        """A process of its own saves and is gone at a call of the system; then another opens the folder."""
        step, content, score = self._draw(data)
        child = os.fork()
        if child == 0:
            try:
                with struck(CALLS, number, lambda: os._exit(KILLED)):
                    self.store.save(step, writing(content), score=score)
                    self.store.wait()
                    os._exit(0)
            finally:
                os._exit(1)  # what went wrong must not go on here as a second pytest
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, KILLED)
        self.store = self._opened()
        self._book_what_stands(step, content, score, finished=code == 0)

    @precondition(lambda self: any(not saved.damaged for saved in self.books.values()))
    @rule(data=st.data(), kind=st.sampled_from(["flip", "truncate", "delete"]))
    def damage(self, data: st.DataObject, kind: str) -> None:
        step = data.draw(st.sampled_from(sorted(step for step, saved in self.books.items() if not saved.damaged)))
        files = sorted(path for path in self._path(step).rglob("*") if path.is_file())
        if kind != "delete":
            files = [path for path in files if path.stat().st_size]
        path = data.draw(st.sampled_from(files))
        if kind == "delete":
            path.unlink()
        else:
            content = bytearray(path.read_bytes())
            at = data.draw(st.integers(0, len(content) - 1))
            if kind == "truncate":
                del content[at:]
            else:
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            path.write_bytes(content)
        self.books[step].damaged = True
        self.books[step].score = self._score_on_disk(step)

    @rule()
    def reopen(self) -> None:
        self.store = self._opened()
        assert not self._leftovers()

    @invariant()
    def the_newest_whole_one_is_found_and_damage_is_told(self) -> None:
        if not hasattr(self, "store"):
            return
        whole = [step for step, saved in self.books.items() if not saved.damaged]
        latest = self.store.latest()
        assert latest == (self._path(max(whole)) if whole else None)
        passed_over = sorted((step for step in self.books if step > max(whole, default=-1)), reverse=True)
        assert len(self.store.damaged) == len(passed_over)
        for step, told in zip(passed_over, self.store.damaged, strict=True):
            assert self._path(step).name in told

    @invariant()
    def every_whole_one_reads_back_to_the_bit(self) -> None:
        for step, saved in getattr(self, "books", {}).items():
            assert saved.damaged == (find_fault(self._path(step)) is not None)
            assert saved.damaged or held(self._path(step)) == saved.content

    @invariant()
    def nothing_else_is_there(self) -> None:
        if hasattr(self, "store"):
            assert {path.name for path in self.folder.glob("step-*")} == {self._path(step).name for step in self.books}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            with contextlib.suppress(CheckpointError):
                self.store.wait()  # an example may end, out of choices, between two saves of a row
            shutil.rmtree(self.folder)

    def _draw(self, data: st.DataObject) -> tuple[int, Content, float]:
        """What a run saves next: a step after the newest whole one's, or that one again; later ones are damaged."""
        newest = max((step for step, saved in self.books.items() if not saved.damaged), default=0)
        return newest + data.draw(st.sampled_from([0, 0, 1, 2, 3])), data.draw(contents), data.draw(scores)

    def _book(self, step: int, content: Content, score: float) -> None:
        """A save has come to its end, with the removal of what it outlived."""
        self.books[step] = Saved(content, None if math.isnan(score) else score)
        for outlived in self._outlived(step):
            del self.books[outlived]

    def _outlived(self, step: int) -> list[int]:
        """What may go now that this step is saved: neither among the newest, nor due by its number, nor the best."""
        rivals = sorted((other for other in self.books if other <= step), reverse=True)
        known = [score for other in rivals if (score := self.books[other].score) is not None]
        winner = None
        if self.best is not None and known:
            winner = next(other for other in rivals if self.books[other].score == self.best(known))
        kept = {*rivals[: self.keep], winner, *(other for other in rivals if self.every and other % self.every == 0)}
        return [other for other in rivals if other not in kept]

    def _book_what_stands(self, step: int, content: Content, score: float, *, finished: bool) -> None:
        """After a save that may have ended anywhere: the new one is whole or as if never begun, and only if it is
        whole may those that it outlives be gone, or be half gone."""
        if finished:
            self._book(step, content, score)
            return
        before = self.books.get(step)
        path = self._path(step)
        if not path.exists() or (before is not None and find_fault(path) is not None):
            assert (before is None) == (not path.exists()), "a save took away one that stood"
            assert before is None or before.damaged, "a save damaged one that was whole"
            return
        assert find_fault(path) is None, "half a checkpoint bears a final name"
        if before is not None and not before.damaged and held(path) == before.content != content:
            return  # the old one of that step still stands
        assert held(path) == content
        self.books[step] = Saved(content, self._score_on_disk(step))
        for outlived in self._outlived(step):
            if not self._path(outlived).exists():
                del self.books[outlived]
            elif find_fault(self._path(outlived)) is not None:
                self.books[outlived].damaged = True
                self.books[outlived].score = self._score_on_disk(outlived)

    def _score_on_disk(self, step: int) -> float | None:
        try:
            manifest = json.loads((self._path(step) / MANIFEST).read_bytes())
        except (OSError, ValueError):
            return None
        score: float | None = manifest.get("score")
        return score

    def _leftovers(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.name.startswith(".")]

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"


CheckpointMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestCheckpoints = CheckpointMachine.TestCase
