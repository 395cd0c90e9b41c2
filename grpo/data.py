"""Problems to train on and problems to evaluate on: what a recipe's ``data`` section comes to.

Held-out problems do not depend on the run's seed, and no training problem has the text of one. Where several sources
are mixed, each has its part of the training problems and, where none are named apart, of the held-out ones.
"""

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from grpo.datatypes import Problem
from grpo.errors import DataError
from grpo.proportion import in_proportion
from grpo.recipe import Data, DataSource, TrainSource
from grpo.seeds import named_seed
from grpo.source_problems import NUM_NAMED, CheckReference, Names, SourceProblems, held_out_split, load_source
from grpo.streams import Curriculum, Generated, Mixed, ProblemStream, Shuffled, question_key


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """What was made of one source, for ``data.json`` and ``grpo data``.

    ``key`` is the recipe section and ``name`` what metrics and problem ids call it. ``num_rows`` were read, and
    ``num_filtered`` of them did not pass the filter; both are None of a generator without end. ``rejected`` rows have
    no question or no reference that can be judged, each with the reason; ``duplicates`` (problem ids) ask a held-out
    question and were dropped from training; ``num_held_out`` problems are evaluated on; ``num_train`` are trained on,
    None where they do not end. ``origin`` says which state of the data was read (see ``grpo.sources.Table``).
    """

    key: str
    name: str
    source: DataSource
    num_rows: int | None
    num_filtered: int | None
    rejected: tuple[str, ...]
    duplicates: tuple[str, ...] = ()
    num_held_out: int = 0
    num_train: int | None = 0
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a run trains on and what it is evaluated on.

    ``num_excluded`` rows had no question or no reference that can be judged, the first few named in ``excluded``;
    ``num_duplicates`` rows of the training data asked a held-out question and were dropped; ``sources`` has this, and
    more, of each source.
    """

    train: ProblemStream
    held_out: tuple[Problem, ...]
    num_excluded: int
    excluded: tuple[str, ...]
    num_duplicates: int = 0
    sources: tuple[SourceRecord, ...] = ()


def load_data(data: Data, *, seed: int, check_reference: CheckReference) -> Dataset:
    """Read the recipe's ``data`` section.

    ``check_reference`` says why a reference cannot be judged, None where it can; it is asked once per text.

    Raises:
        DataError: a source cannot be read, lacks a column, has no usable row or too few held-out problems; its filter
            or curriculum does not fit it; or, with ``on_bad_reference: fail``, any row is unusable.
        MissingPackageError: a source needs an optional package.
    """
    check = functools.cache(check_reference)
    train = _load_all(data.train_sources(), check)
    apart = _load_all(data.held_out_sources(), check)
    rejected = [reason for part in (*train, *apart) for reason in part.rejected]
    if rejected and data.on_bad_reference == "fail":
        raise DataError(
            f"data.on_bad_reference = 'fail' and {len(rejected)} rows cannot be used: "
            f"{'; '.join(rejected[:NUM_NAMED])}. Mend the rows, or set it to 'exclude'"
        )
    chosen = _choose_held_out(apart or train, data.num_held_out, check)
    keys = frozenset(question_key(problem.question) for problems in chosen for problem in problems)
    streams = [_stream(part, place, keys, seed) for place, part in enumerate(train)]
    none_chosen: list[tuple[Problem, ...]] = [()] * len(train)
    records = [
        _record(part, problems, stream, keys)
        for part, problems, stream in zip(train, none_chosen if apart else chosen, streams, strict=True)
    ]
    if apart:
        records += [_record(part, problems, None, keys) for part, problems in zip(apart, chosen, strict=True)]
    return Dataset(
        train=_mixed(streams, [part.source.weight for part in train]),
        held_out=tuple(problem for problems in chosen for problem in problems),
        num_excluded=len(rejected),
        excluded=tuple(rejected[:NUM_NAMED]),
        num_duplicates=sum(len(record.duplicates) for record in records),
        sources=tuple(records),
    )


def _load_all(sources: Mapping[str, DataSource], check: CheckReference) -> list[SourceProblems]:
    names = Names()
    return [load_source(source, key, check, names) for key, source in sources.items()]


def _choose_held_out(pools: Sequence[SourceProblems], total: int, check: CheckReference) -> list[tuple[Problem, ...]]:
    """Of each pool its part of the held-out problems; no two of all have one question."""
    chosen: list[tuple[Problem, ...]] = []
    taken: set[str] = set()
    for pool, count in zip(pools, in_proportion(total, [pool.source.weight for pool in pools]), strict=True):
        if pool.generator is not None:
            pool = held_out_split(pool, count, taken, check)
        chosen.append(_first_by_hash(pool, count, taken, of=total))
        taken.update(question_key(problem.question) for problem in chosen[-1])
    return chosen


def _first_by_hash(pool: SourceProblems, count: int, taken: Collection[str], *, of: int) -> tuple[Problem, ...]:
    """``count`` problems with distinct questions that are not ``taken``, in the order of a hash of the question."""
    distinct: dict[str, Problem] = {}
    for problem in pool.problems:
        distinct.setdefault(question_key(problem.question), problem)
    keys = sorted(distinct.keys() - taken, key=lambda key: hashlib.sha256(key.encode()).digest())
    if len(keys) < count:
        part = "" if count == of else f", of which {count} are its part,"
        raise DataError(
            f"data.num_held_out = {of}{part}: {pool.where} has only {len(keys)} distinct problems to hold out. "
            "Lower data.num_held_out, or name a larger source under data.held_out"
        )
    return tuple(distinct[key] for key in keys[:count])


def _stream(part: SourceProblems, place: int, held_out_keys: frozenset[str], seed: int) -> ProblemStream:
    """A source's own stream; sources of a mixture do not share their orders, nor generators their problems."""
    seed = named_seed("source", seed, place) if place else seed
    assert isinstance(part.source, TrainSource)
    column = part.source.curriculum
    if part.generator is not None and part.is_endless:
        if column is not None:
            part.difficulties(column, ())
        return Generated(
            generator=part.generator, seed=seed, held_out_keys=held_out_keys, passes=part.passes, where=part.where
        )
    kept = tuple(problem for problem in part.problems if question_key(problem.question) not in held_out_keys)
    if not kept:
        raise DataError(
            f"data.num_held_out = {len(held_out_keys)}: no problem of {part.where} is left to train on. Lower it"
        )
    if column is None:
        return Shuffled(problems=kept, seed=seed)
    return Curriculum(problems=kept, difficulties=part.difficulties(column, kept), seed=seed)


def _mixed(streams: Sequence[ProblemStream], weights: Sequence[float]) -> ProblemStream:
    return streams[0] if len(streams) == 1 else Mixed(streams=tuple(streams), weights=tuple(weights))


def _record(
    part: SourceProblems, chosen: Sequence[Problem], stream: ProblemStream | None, keys: frozenset[str]
) -> SourceRecord:
    """``stream``: None of a source that only evaluates."""
    own = {problem.problem_id for problem in chosen}
    asked = [problem.problem_id for problem in part.problems if question_key(problem.question) in keys]
    return SourceRecord(
        key=part.key,
        name=part.name,
        source=part.source,
        num_rows=part.num_rows,
        num_filtered=part.num_filtered,
        rejected=part.rejected,
        duplicates=tuple(name for name in asked if name not in own) if stream is not None else (),
        num_held_out=len(chosen),
        num_train=0 if stream is None else stream.size,
        origin=part.origin,
    )
