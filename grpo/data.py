"""Problems to train on and problems to evaluate on, from a generator, a file or the hub.

The training stream is addressed by ordinal: problem 0, 1, 2, … of the run. A resumed run needs only the next
ordinal. Held-out problems do not depend on the run's seed, and no training problem has the text of one.
"""

import difflib
import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from grpo.datatypes import Problem
from grpo.errors import DataError
from grpo.generators import GENERATORS, Generator, make_generator
from grpo.recipe import Data, DataSource
from grpo.seeds import named_seed
from grpo.sources import Row, Table, read_table

NUM_NAMED = 5  # excluded rows that a message names
HELD_OUT_SEED = 0  # held-out problems are the same whatever the run's seed
REDRAW_STRIDE = 1 << 40  # where a generated problem is held out elsewhere, its next candidate is so many on

CheckReference = Callable[[str], str | None]


class ProblemStream(Protocol):
    """Training problems in order, by random access."""

    @property
    def size(self) -> int | None:
        """Distinct problems; None where there is no end."""
        ...

    def problem(self, ordinal: int) -> tuple[Problem, int]:
        """The ``ordinal``-th problem of the run, and how often the stream came to it before (its epoch)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a run trains on and what it is evaluated on.

    ``num_excluded`` rows had no question or no reference that can be judged, the first few named in ``excluded``;
    ``num_duplicates`` rows of the training data asked a held-out question and were dropped.
    """

    train: ProblemStream
    held_out: tuple[Problem, ...]
    num_excluded: int
    excluded: tuple[str, ...]
    num_duplicates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """A finite set, in another order each epoch; the order follows from the seed and the epoch.

    >>> problems = tuple(Problem(problem_id=f"p/{i}", question=f"{i}?", reference="0") for i in range(3))
    >>> stream = Shuffled(problems=problems, seed=0)
    >>> sorted(stream.problem(ordinal)[0].problem_id for ordinal in range(3))
    ['p/0', 'p/1', 'p/2']
    >>> stream.problem(7)[1]
    2
    """

    problems: tuple[Problem, ...]
    seed: int

    @property
    def size(self) -> int | None:
        return len(self.problems)

    def problem(self, ordinal: int) -> tuple[Problem, int]:
        epoch, place = divmod(ordinal, len(self.problems))
        return self.problems[_epoch_order(self.seed, epoch, len(self.problems))[place]], epoch


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, size: int) -> Sequence[int]:
    # RandomState, because numpy promises never to change its stream: an old run resumes in its own order.
    rng = np.random.RandomState(named_seed("order", seed, epoch) % 2**32)
    order: list[int] = rng.permutation(size).tolist()
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """A generator's training split without end; ``held_out_keys`` are texts that it must not ask."""

    generator: Generator
    seed: int
    held_out_keys: frozenset[str]

    @property
    def size(self) -> int | None:
        return None

    def problem(self, ordinal: int) -> tuple[Problem, int]:
        index = ordinal
        while True:
            problem = self.generator.problem(index, seed=self.seed, held_out=False)
            if question_key(problem.question) not in self.held_out_keys:
                return problem, 0
            index += REDRAW_STRIDE


def question_key(question: str) -> str:
    """The question's text without what does not tell two questions apart: case, spacing, Unicode composition.

    >>> question_key("What  is\\n2 + 2?") == question_key("what is 2 + 2?")
    True
    """
    return " ".join(unicodedata.normalize("NFC", question).casefold().split())


def load_data(data: Data, *, seed: int, check_reference: CheckReference) -> Dataset:
    """Read the recipe's ``data`` section.

    ``check_reference`` says why a reference cannot be judged, None where it can; it is asked once per text.

    Raises:
        DataError: a source cannot be read, lacks a column, has no usable row or too few held-out problems; or, with
            ``on_bad_reference: fail``, any row is unusable.
    """
    check = functools.cache(check_reference)
    train = _load(data.train, "data.train", check)
    if data.held_out is not None:
        pool = _load(data.held_out, "data.held_out", check, held_out=data.num_held_out)
    elif train.generator is not None:
        unlimited = data.train.model_copy(update={"limit": None})
        pool = _load(unlimited, "data.train", check, held_out=data.num_held_out)
    else:
        pool = train
    rejected = train.rejected if pool is train else train.rejected + pool.rejected
    if rejected and data.on_bad_reference == "fail":
        raise DataError(
            f"data.on_bad_reference = 'fail' and {len(rejected)} rows cannot be used: "
            f"{'; '.join(rejected[:NUM_NAMED])}. Mend the rows, or set it to 'exclude'"
        )
    held_out = _choose_held_out(pool, data.num_held_out)
    stream, num_duplicates = _train_stream(train, held_out, seed)
    return Dataset(
        train=stream,
        held_out=held_out,
        num_excluded=len(rejected),
        excluded=rejected[:NUM_NAMED],
        num_duplicates=num_duplicates - len(held_out) if pool is train else num_duplicates,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """One source: its usable problems, or the endless generator that makes them."""

    where: str  # key and path, for messages
    problems: tuple[Problem, ...]
    rejected: tuple[str, ...] = ()
    generator: Generator | None = None


def _load(source: DataSource, key: str, check: CheckReference, *, held_out: int | None = None) -> _Loaded:
    """``held_out``: load the held-out split of a generator, this many problems of it; None is its training split."""
    where = f"{key}.path = {source.path!r}"
    if source.path not in GENERATORS:
        if source.args:
            raise DataError(f"{key}.args = {source.args!r}: only a generator takes arguments. Remove them")
        return _load_table(read_table(source, key=key), source, key, check)
    generator = make_generator(source.path, source.args, key=key)
    problems = _generate(generator, source.limit, held_out)
    for problem in problems:
        reason = check(problem.reference)
        if reason is not None:
            raise DataError(
                f"{where}: the rewards cannot judge the reference {problem.reference!r} of this generator ({reason}). "
                "Choose a reward that fits it"
            )
    return _Loaded(where=where, problems=problems, generator=generator)


def _generate(generator: Generator, limit: int | None, held_out: int | None) -> tuple[Problem, ...]:
    """The distinct problems of a split as far as they are listed; none for a training split without end."""
    size = generator.size(held_out is not None)
    ends = [end for end in (size, limit) if end is not None]
    if held_out is not None:
        ends.append(size or 2 * held_out + 1000)  # draws repeat problems now and then
    found: dict[str, Problem] = {}
    for index in range(min(ends, default=0)):
        if size is None and held_out is not None and len(found) == held_out:
            break
        problem = generator.problem(index, seed=HELD_OUT_SEED, held_out=held_out is not None)
        found.setdefault(question_key(problem.question), problem)
    return tuple(found.values())


def _load_table(table: Table, source: DataSource, key: str, check: CheckReference) -> _Loaded:
    where = f"{key}.path = {source.path!r}"
    for name in ("question", "reference"):
        _check_column(getattr(source, name), table, f"{key}.{name}", source.path)
    pattern = _compile(source.reference_pattern, key)
    problems, rejected = [], []
    for number, row in enumerate(table.rows):
        problem, reason = _make_problem(row, f"{table.id_prefix}/{number}", table.source, source, pattern)
        reason = reason or check(problem.reference)
        if reason:
            rejected.append(f"{problem.problem_id}: {reason}")
        else:
            problems.append(problem)
    if not problems:
        raise DataError(
            f"{where}: none of its {len(rejected)} rows can be used: {'; '.join(rejected[:NUM_NAMED])}. "
            f"Mend {key}.question, {key}.reference or {key}.reference_pattern, or choose a reward that fits"
        )
    return _Loaded(where=where, problems=tuple(problems), rejected=tuple(rejected))


def _check_column(column: str, table: Table, key: str, path: str) -> None:
    if column in table.columns:
        return
    near = difflib.get_close_matches(column, table.columns, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Set {key} to one of them."
    raise DataError(f"{key} = {column!r}: {path!r} has the columns {', '.join(table.columns)}. {hint}")


def _compile(pattern: str | None, key: str) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"{key}.reference_pattern = {pattern!r}: not a regular expression ({error}). Mend it") from None
    if not compiled.groups:
        raise DataError(
            f"{key}.reference_pattern = {pattern!r}: its first group is the reference, and it has none. "
            "Put brackets around the part to keep, as in '#### (.*)'"
        )
    return compiled


def _make_problem(
    row: Row, problem_id: str, source_name: str, source: DataSource, pattern: re.Pattern[str] | None
) -> tuple[Problem, str | None]:
    """The row as a problem, and why it cannot be used, if so."""
    question, reason = _text_of(row, source.question)
    reference, reference_reason = _text_of(row, source.reference)
    if pattern is not None and reference_reason is None:
        match = pattern.search(reference)
        reference = (match.group(1) or "").strip() if match else ""
        if not reference:
            reference_reason = f"column '{source.reference}' does not match {pattern.pattern!r}"
    problem = Problem(  # every column stays: reward functions ask for them by the data's own names
        problem_id=problem_id, question=question, reference=reference, source=source_name, columns=dict(row)
    )
    return problem, reason or reference_reason


def _text_of(row: Row, column: str) -> tuple[str, str | None]:
    value = row.get(column)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = str(value)
        return (text, None) if text.strip() else ("", f"column '{column}' is empty")
    return "", f"column '{column}' is {'empty' if value is None else f'a {type(value).__name__}, not a text'}"


def _choose_held_out(pool: _Loaded, count: int) -> tuple[Problem, ...]:
    """``count`` problems with distinct questions, in the order of a hash of the question."""
    distinct: dict[str, Problem] = {}
    for problem in pool.problems:
        distinct.setdefault(question_key(problem.question), problem)
    if len(distinct) < count:
        raise DataError(
            f"data.num_held_out = {count}: {pool.where} has only {len(distinct)} distinct problems to hold out. "
            "Lower data.num_held_out, or name a larger source under data.held_out"
        )
    keys = sorted(distinct, key=lambda key: hashlib.sha256(key.encode()).digest())
    return tuple(distinct[key] for key in keys[:count])


def _train_stream(train: _Loaded, held_out: Sequence[Problem], seed: int) -> tuple[ProblemStream, int]:
    """The stream, and how many rows were left out of it because they ask a held-out question."""
    held_out_keys = frozenset(question_key(problem.question) for problem in held_out)
    if train.generator is not None and not train.problems:
        return Generated(generator=train.generator, seed=seed, held_out_keys=held_out_keys), 0
    kept = tuple(problem for problem in train.problems if question_key(problem.question) not in held_out_keys)
    if not kept:
        raise DataError(
            f"data.num_held_out = {len(held_out)}: no problem of {train.where} is left to train on. Lower it"
        )
    assert held_out_keys.isdisjoint(question_key(problem.question) for problem in kept), "a held-out problem in train"
    return Shuffled(problems=kept, seed=seed), len(train.problems) - len(kept)
