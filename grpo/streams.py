"""The order in which problems are asked. A stream is addressed by ordinal: problem 0, 1, 2, … of the run.

A resumed run needs only the next ordinal, and every problem follows from its ordinal and the run's seed alone.
"""

import functools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from grpo.datatypes import Problem
from grpo.errors import DataError
from grpo.generators import Generator
from grpo.seeds import named_seed

REDRAW_STRIDE = 1 << 40  # where a generated problem may not be asked, its next candidate is so many on
MAX_REDRAWS = 1000  # of one problem: a filter that passes fewer would make each step wait


class ProblemStream(Protocol):
    """Training problems in order, by random access."""

    @property
    def size(self) -> int | None:
        """Distinct problems; None where there is no end."""
        ...

    @property
    def listed(self) -> tuple[Problem, ...]:
        """The problems that can be listed, in the order of their rows: all but those of generators without end."""
        ...

    def problem(self, ordinal: int) -> tuple[Problem, int]:
        """The ``ordinal``-th problem of the run, and how often the stream came to it before (its epoch)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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

    @property
    def listed(self) -> tuple[Problem, ...]:
        return self.problems

    def problem(self, ordinal: int) -> tuple[Problem, int]:
        epoch, place = divmod(ordinal, len(self.problems))
        return self.problems[self._order(epoch)[place]], epoch

    def _order(self, epoch: int) -> Sequence[int]:
        return _epoch_order(self.seed, epoch, len(self.problems))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curriculum(Shuffled):
    """A finite set by ascending difficulty, in every epoch; those of one difficulty in another order each epoch.

    >>> problems = tuple(Problem(problem_id=f"p/{i}", question=f"{i}?", reference="0") for i in range(3))
    >>> stream = Curriculum(problems=problems, difficulties=(2.0, 1.0, 3.0), seed=0)
    >>> [stream.problem(ordinal)[0].problem_id for ordinal in range(4)]
    ['p/1', 'p/0', 'p/2', 'p/1']
    """

    difficulties: tuple[float, ...]  # of each problem

    def _order(self, epoch: int) -> Sequence[int]:
        return _ascending_order(self, epoch)


@functools.lru_cache(maxsize=16)
def _epoch_order(seed: int, epoch: int, size: int) -> Sequence[int]:
    # RandomState, because numpy promises never to change its stream: an old run resumes in its own order.
    rng = np.random.RandomState(named_seed("order", seed, epoch) % 2**32)
    order: list[int] = rng.permutation(size).tolist()
    return order


@functools.lru_cache(maxsize=16)
def _ascending_order(stream: Curriculum, epoch: int) -> Sequence[int]:
    shuffled = _epoch_order(stream.seed, epoch, len(stream.problems))
    return sorted(shuffled, key=stream.difficulties.__getitem__)  # a stable sort: ties stay shuffled


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """A generator's training split without end.

    Args:
        held_out_keys: keys of questions that it must not ask.
        passes: the source's filter; a problem that does not pass is drawn anew.
        where: key and path of the source, for messages.
    """

    generator: Generator
    seed: int
    held_out_keys: frozenset[str]
    passes: Callable[[Problem], bool] = lambda problem: True
    where: str = ""

    @property
    def size(self) -> int | None:
        return None

    @property
    def listed(self) -> tuple[Problem, ...]:
        return ()

    def problem(self, ordinal: int) -> tuple[Problem, int]:
        """As ``ProblemStream.problem``.

        Raises:
            DataError: no problem was found in ``MAX_REDRAWS`` that may be asked.
        """
        for redraw in range(MAX_REDRAWS):
            problem = self.generator.problem(ordinal + redraw * REDRAW_STRIDE, seed=self.seed, held_out=False)
            if question_key(problem.question) not in self.held_out_keys and self.passes(problem):
                return problem, 0
        raise DataError(
            f"{self.where}: of {MAX_REDRAWS} problems drawn in a row, none passes its filter and is not held out. "
            "Widen the filter or the generator's args"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Several streams at once, each with its weight's share of the ordinals, each in its own order.

    Which stream an ordinal is drawn from is a rule, not a lot: the first stream takes its share of all ordinals as
    evenly as can be, the second its share of those that are left, and so on. So every stretch of the run has the
    proportions to within a problem or two a stream, and how far each stream has come follows from the ordinal alone.

    >>> a, b = (
    ...     Shuffled(problems=(Problem(problem_id=name, question="1?", reference="1"),), seed=0) for name in "ab"
    ... )
    >>> stream = Mixed(streams=(a, b), weights=(3.0, 1.0))
    >>> "".join(stream.problem(ordinal)[0].problem_id for ordinal in range(8))
    'aabaaaba'
    """

    streams: tuple[ProblemStream, ...]
    weights: tuple[float, ...]

    @property
    def size(self) -> int | None:
        sizes = [stream.size for stream in self.streams]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def listed(self) -> tuple[Problem, ...]:
        return tuple(problem for stream in self.streams for problem in stream.listed)

    def problem(self, ordinal: int) -> tuple[Problem, int]:
        for stream, share in zip(self.streams, _shares_of_the_rest(self.weights), strict=True):
            before = _taken(ordinal, share)
            if _taken(ordinal + 1, share) > before:
                return stream.problem(before)
            ordinal -= before
        raise AssertionError("the last stream takes all that is left")


@functools.lru_cache(maxsize=16)
def _shares_of_the_rest(weights: tuple[float, ...]) -> tuple[Fraction, ...]:
    """Of what the streams before leave, the part of each; the last takes all. Exact: 0.7 is seven tenths."""
    exact = [Fraction(repr(weight)) for weight in weights]
    return tuple(weight / sum(exact[place:]) for place, weight in enumerate(exact))


def _taken(count: int, share: Fraction) -> int:
    """How many of the first ``count`` a part of ``share`` takes: the nearest whole number."""
    return (2 * count * share.numerator + share.denominator) // (2 * share.denominator)


def question_key(question: str) -> str:
    """The question's text without what does not tell two questions apart: case, spacing, Unicode composition.

    >>> question_key("What  is\\n2 + 2?") == question_key("what is 2 + 2?")
    True
    """
    return " ".join(unicodedata.normalize("NFC", question).casefold().split())
