"""One source of a recipe's ``data``: its usable problems, or the endless generator that makes them."""

import importlib.metadata
import itertools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from grpo.columns import ColumnMap, value_of
from grpo.datatypes import Problem
from grpo.errors import DataError, did_you_mean
from grpo.generators import Generator, Renamed, is_generator, make_generator
from grpo.gym_generator import GYM_PREFIX
from grpo.loading_bar import with_bar
from grpo.recipe import DataSource
from grpo.row_filter import RowFilter
from grpo.sources import Row, Table, read_table
from grpo.streams import question_key

NUM_NAMED = 5  # excluded rows that a message names
HELD_OUT_SEED = 0  # held-out problems are the same whatever the run's seed

CheckReference = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceProblems:
    """What was made of one source.

    ``num_rows`` were read and ``num_filtered`` of them did not pass the filter; None where a generator has no end.
    ``rejected`` rows cannot be used, each with the reason. ``problems`` is empty where ``generator`` is all there is;
    what it makes must satisfy ``passes``.
    """

    key: str
    source: DataSource
    name: str  # of metrics
    problems: tuple[Problem, ...]
    num_rows: int | None
    num_filtered: int | None
    rejected: tuple[str, ...] = ()
    generator: Generator | None = None
    passes: Callable[[Problem], bool] = lambda problem: True
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Key and path, for messages."""
        return f"{self.key}.path = {self.source.path!r}"

    @property
    def is_endless(self) -> bool:
        return self.num_rows is None

    def difficulties(self, column: str, problems: Collection[Problem]) -> tuple[float, ...]:
        """The value of a curriculum's column for each of ``problems``.

        Raises:
            DataError: there is no such column, it is not a number throughout, or the source has no end to sort to.
        """
        where = f"{self.key}.curriculum = {column!r}"
        if self.is_endless:
            raise DataError(
                f"{where}: {self.source.path!r} makes problems without end, which have no order. Set {self.key}.limit"
            )
        columns = tuple(dict.fromkeys(name for problem in problems for name in problem.columns))
        if column not in columns and "." not in column:
            hint = did_you_mean(column, columns, "Name one of them, or leave it out.")
            raise DataError(f"{where}: {self.source.path!r} has the columns {', '.join(columns) or 'none'}. {hint}")
        return tuple(
            _number(value_of(problem.columns, column), f"{where}: of {problem.problem_id}") for problem in problems
        )


class Names:
    """The names that the sources of one part have so far: two of one name could not be told apart.

    >>> names = Names()
    >>> names.own("arithmetic"), names.own("arithmetic")
    ('arithmetic', 'arithmetic-1')
    >>> [names.own(name) for name in ("sums-4", "sums", "sums")]  # a name may be taken with a number behind it
    ['sums-4', 'sums', 'sums-5']
    """

    def __init__(self) -> None:
        self._taken: list[str] = []

    def own(self, name: str) -> str:
        """``name``, or with its place in the list behind it where it is taken."""
        others = (f"{name}-{number}" for number in itertools.count(len(self._taken)))
        self._taken.append(next(each for each in itertools.chain([name], others) if each not in self._taken))
        return self._taken[-1]


def load_source(source: DataSource, key: str, check: CheckReference, names: Names) -> SourceProblems:
    """Read a source; of a generator, its training split as far as it is listed.

    Raises:
        DataError: as ``grpo.data.load_data``.
        MissingPackageError: likewise.
    """
    row_filter = None if source.filter is None else RowFilter(source.filter, key=key)
    if not is_generator(source.path):
        return _from_table(_renamed(read_table(source, key=key), names), source, key, check, row_filter)
    generator = make_generator(source.path, source.args, key=key)
    name = names.own(generator.name)
    if name != generator.name:
        generator = Renamed(generator, name)
    size = generator.size(held_out=False)
    ends = [end for end in (size, source.limit) if end is not None]
    part = SourceProblems(
        key=key,
        source=source,
        name=name,
        problems=(),
        num_rows=min(ends, default=None),
        num_filtered=min(ends, default=None),
        generator=generator,
        passes=_passes(row_filter, generator),
        origin=_package_of(source.path),
    )
    if part.num_rows is None:
        return part
    drawn = [generator.problem(index, seed=HELD_OUT_SEED, held_out=False) for index in range(part.num_rows)]
    passing = [problem for problem in drawn if part.passes(problem)]
    problems = {question_key(problem.question): problem for problem in reversed(passing)}
    listed = tuple(problem for problem in passing if problems[question_key(problem.question)] is problem)
    _check_references(part, listed, check)
    return replace(part, problems=listed, num_filtered=len(drawn) - len(passing))


def held_out_split(part: SourceProblems, count: int, taken: Collection[str], check: CheckReference) -> SourceProblems:
    """A generator's held-out problems, up to ``count`` distinct ones of which none is ``taken``, by question's key.

    Raises:
        DataError: the rewards cannot judge its references.
    """
    generator = part.generator
    assert generator is not None
    size = generator.size(held_out=True)
    found: dict[str, Problem] = {}
    for index in range(2 * count + 1000 if size is None else size):  # draws repeat problems now and then
        if size is None and len(found) == count:
            break
        problem = generator.problem(index, seed=HELD_OUT_SEED, held_out=True)
        if part.passes(problem) and question_key(problem.question) not in taken:
            found.setdefault(question_key(problem.question), problem)
    _check_references(part, found.values(), check)
    return replace(part, problems=tuple(found.values()))


def _check_references(part: SourceProblems, problems: Collection[Problem], check: CheckReference) -> None:
    for problem in problems:
        reason = check(problem.reference)
        if reason is not None:
            raise DataError(
                f"{part.where}: the rewards cannot judge the reference {problem.reference!r} of this generator "
                f"({reason}). Choose a reward that fits it"
            )


def _passes(row_filter: RowFilter | None, generator: Generator) -> Callable[[Problem], bool]:
    if row_filter is None:
        return lambda problem: True
    row_filter.check_columns(tuple(_row_of(generator.problem(0, seed=HELD_OUT_SEED, held_out=False))))
    return lambda problem: row_filter.passes(_row_of(problem), problem.problem_id)


def _row_of(problem: Problem) -> Row:
    """A generated problem as a row of a file would have it."""
    return {"question": problem.question, "answer": problem.reference, **problem.columns}


def _package_of(path: str) -> dict[str, str]:
    return {"reasoning-gym": importlib.metadata.version("reasoning-gym")} if path.startswith(GYM_PREFIX) else {}


def _renamed(table: Table, names: Names) -> Table:
    name = names.own(table.source)
    return replace(table, source=name, id_prefix=name + table.id_prefix.removeprefix(table.source))


def _from_table(
    table: Table, source: DataSource, key: str, check: CheckReference, row_filter: RowFilter | None
) -> SourceProblems:
    columns = ColumnMap(source, table, key=key)
    if row_filter is not None:
        row_filter.check_columns(table.columns)
    problems, rejected, num_filtered = [], [], 0
    empty = dict.fromkeys(table.columns)  # a row may lack a column that others have
    for number, row in enumerate(with_bar(table.rows, f"checking {table.source}", total=len(table.rows))):
        if row_filter is not None and not row_filter.passes(empty | dict(row), f"{table.id_prefix}/{number}"):
            num_filtered += 1
            continue
        problem, reason = columns.problem(number, row)
        reason = reason or check(problem.reference)
        if reason:
            rejected.append(f"{problem.problem_id}: {reason}")
        else:
            problems.append(problem)
    part = SourceProblems(
        key=key,
        source=source,
        name=table.source,
        problems=tuple(problems),
        num_rows=len(table.rows),
        num_filtered=num_filtered,
        rejected=tuple(rejected),
        origin=table.origin,
    )
    _check_any(part)
    return part


def _check_any(part: SourceProblems) -> None:
    if part.problems:
        return
    if not part.rejected:
        raise DataError(
            f"{part.key}.filter = {part.source.filter!r}: none of the {part.num_rows} rows of {part.source.path!r} "
            "passes. Widen the filter"
        )
    raise DataError(
        f"{part.where}: none of its {len(part.rejected)} rows can be used: {'; '.join(part.rejected[:NUM_NAMED])}. "
        f"Mend {part.key}.question, {part.key}.reference or {part.key}.reference_pattern, or choose a reward that fits"
    )


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise DataError(f"{where} it is {value!r}, not a number. Name a column with a number in every row")
    return float(value)
