"""Generated tasks, by name: problems without end or a finite set, made on the spot from an index.

Those of reasoning-gym are in ``gym_generator``.

The split of a problem follows from the problem alone (a hash), so no seed and no argument can move a held-out
problem into training.
"""

import functools
import hashlib
import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Protocol

from grpo.arithmetic import problem_at
from grpo.datatypes import Problem
from grpo.errors import DataError, did_you_mean
from grpo.gym_generator import GYM_PREFIX, ReasoningGym

MAX_NUMBERS = 12  # of a chain: beyond, drawing one whose every step stays in range takes long
HELD_OUT_SHARE = 5  # of one_digit and countdown, one problem in five is held out


class Generator(Protocol):
    """Makes the ``index``-th problem of a split; a pure function, so random access and resuming cost nothing."""

    @property
    def name(self) -> str:
        """What opens the id of each problem, and names its metrics."""
        ...

    def problem(self, index: int, *, seed: int, held_out: bool) -> Problem:
        """The problem at ``index`` (from 0).

        Raises:
            IndexError: the split is finite and ``index`` lies outside it.
        """
        ...

    def size(self, held_out: bool) -> int | None:
        """How many problems the split has; None where it has no end. A finite split ignores the seed."""
        ...


@dataclass(frozen=True, slots=True)
class Renamed:
    """A generator whose problems bear another name in their ids and sources, where two sources are the same one."""

    generator: Generator
    name: str

    def problem(self, index: int, *, seed: int, held_out: bool) -> Problem:
        problem = self.generator.problem(index, seed=seed, held_out=held_out)
        problem_id = self.name + problem.problem_id.removeprefix(self.generator.name)
        return replace(problem, problem_id=problem_id, source=self.name)

    def size(self, held_out: bool) -> int | None:
        return self.generator.size(held_out)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Chains such as ``14-(3+5)+2*6`` of ``min_numbers`` to ``max_numbers`` numbers (see grpo/arithmetic.py).

    >>> problem = Arithmetic(min_numbers=3, max_numbers=3).problem(0, seed=0, held_out=False)
    >>> problem.problem_id
    'arithmetic/0'
    """

    name: ClassVar[str] = "arithmetic"
    min_numbers: int = 3
    max_numbers: int = 5

    def __post_init__(self) -> None:
        _check_range(self.min_numbers, self.max_numbers, MAX_NUMBERS)

    def problem(self, index: int, *, seed: int, held_out: bool) -> Problem:
        expression, answer = problem_at(
            index, seed=seed, held_out=held_out, min_numbers=self.min_numbers, max_numbers=self.max_numbers
        )
        return Problem(
            problem_id=_problem_id(self.name, index, held_out), question=expression, reference=answer, source=self.name
        )

    def size(self, held_out: bool) -> int | None:
        return None


@dataclass(frozen=True, slots=True)
class OneDigit:
    """The 200 sums and products of two one-digit numbers, as plain English.

    >>> OneDigit().problem(0, seed=0, held_out=False).question
    'What is 0 + 0?'
    """

    name: ClassVar[str] = "one_digit"

    def problem(self, index: int, *, seed: int, held_out: bool) -> Problem:
        left, operator, right = _one_digit_operations(held_out)[index]
        return Problem(
            problem_id=_problem_id(self.name, index, held_out),
            question=f"What is {left} {operator} {right}?",
            reference=str(left + right if operator == "+" else left * right),
            source=self.name,
        )

    def size(self, held_out: bool) -> int | None:
        return len(_one_digit_operations(held_out))


@functools.cache
def _one_digit_operations(held_out: bool) -> tuple[tuple[int, str, int], ...]:
    """Every operation of one split; ``7 * 8`` and ``8 * 7`` are in the same."""
    return tuple(
        (left, operator, right)
        for operator in "+*"
        for left in range(10)
        for right in range(10)
        if _is_held_out(f"What is {min(left, right)} {operator} {max(left, right)}?") == held_out
    )


WORDINGS: Mapping[str, Callable[[list[int], int], str]] = MappingProxyType(  # of countdown
    {
        "plain": lambda nums, target: (
            f"Using the numbers {nums}, write an expression that equals {target}. "
            "Use each number exactly once, with +, -, *, / and brackets."
        ),
        "tinyzero": lambda nums, target: (  # word for word, examples/data_preprocess/countdown.py of TinyZero
            f"Using the numbers {nums}, create an equation that equals {target}. You can use basic arithmetic "
            "operations (+, -, *, /) and each number can only be used once."
        ),
        "short": lambda nums, target: f"{' '.join(map(str, nums))} -> {target}",
    }
)


@dataclass(frozen=True, slots=True)
class Countdown:
    """Reach a target with each of some numbers once, as in TinyZero; the columns are ``nums`` and ``target``.

    The target is the value of an expression drawn at random over all the numbers, so every problem has a solution.
    ``wording`` is one of ``WORDINGS``: in words of our own, in TinyZero's, or short enough for a tiny model.

    >>> Countdown(wording="short").problem(0, seed=0, held_out=False).question
    '17 47 3 -> 67'
    """

    name: ClassVar[str] = "countdown"
    min_numbers: int = 3
    max_numbers: int = 4
    max_number: int = 99
    max_target: int = 100
    wording: str = "plain"

    def __post_init__(self) -> None:
        _check_range(self.min_numbers, self.max_numbers, 6)
        if self.wording not in WORDINGS:
            raise DataError(f"wording = {self.wording!r}: allowed are {', '.join(WORDINGS)}. Use one of them")
        if not (self.max_number >= 10 and self.max_target >= 10):
            raise DataError(
                f"max_number = {self.max_number}, max_target = {self.max_target}: both must be at least 10. Raise them"
            )

    def problem(self, index: int, *, seed: int, held_out: bool) -> Problem:
        rng = random.Random(f"countdown/{seed}/{held_out}/{index}")
        while True:
            nums, target = self._draw(rng)
            if _is_held_out(f"{sorted(nums)} = {target}") == held_out:
                break
        return Problem(
            problem_id=_problem_id(self.name, index, held_out),
            question=WORDINGS[self.wording](nums, target),
            reference=str(target),
            source=self.name,
            columns={"nums": nums, "target": target},
        )

    def size(self, held_out: bool) -> int | None:
        return None

    @staticmethod
    def read(problem: Problem) -> tuple[list[int], int]:
        """The numbers and the target of a problem made here."""
        nums, target = problem.columns["nums"], problem.columns["target"]
        assert isinstance(nums, list)
        assert isinstance(target, int)
        return nums, target

    def _draw(self, rng: random.Random) -> tuple[list[int], int]:
        while True:
            nums = [rng.randint(1, self.max_number) for _ in range(rng.randint(self.min_numbers, self.max_numbers))]
            value = _combine(rng, nums)
            if 1 <= value <= self.max_target:
                return nums, value


def _combine(rng: random.Random, nums: list[int]) -> int:
    """Join two numbers at a time by a random operation until one is left; every value is a whole number >= 0."""
    pool = list(nums)
    while len(pool) > 1:
        rng.shuffle(pool)
        small, large = sorted((pool.pop(), pool.pop()))
        choices = [large + small, large - small, large * small]
        if small and large % small == 0:
            choices.append(large // small)
        pool.append(rng.choice(choices))
    return pool[0]


def _check_range(min_numbers: int, max_numbers: int, limit: int) -> None:
    if not 2 <= min_numbers <= max_numbers <= limit:
        raise DataError(
            f"min_numbers = {min_numbers}, max_numbers = {max_numbers}: "
            f"2 <= min_numbers <= max_numbers <= {limit} must hold. Change one of them"
        )


def _is_held_out(text: str) -> bool:
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


def _problem_id(name: str, index: int, held_out: bool) -> str:
    return f"{name}/held_out/{index}" if held_out else f"{name}/{index}"


GENERATORS: Mapping[str, Callable[..., Generator]] = MappingProxyType(
    {"arithmetic": Arithmetic, "countdown": Countdown, "one_digit": OneDigit}
)


def is_generator(path: str) -> bool:
    """Whether a source's ``path`` names a generator: one of ``GENERATORS``, or a task of reasoning-gym.

    >>> is_generator("countdown"), is_generator("reasoning-gym/spell_backward"), is_generator("sums.jsonl")
    (True, True, False)
    """
    return path in GENERATORS or path.startswith(GYM_PREFIX)


def make_generator(name: str, args: Mapping[str, object], *, key: str = "data.train") -> Generator:
    """The generator called ``name`` (see ``is_generator``); ``key`` is the recipe section that errors name.

    Raises:
        DataError: an argument that it does not have, or a value that it does not allow; reasoning-gym has no such task.
        MissingPackageError: the package reasoning-gym is needed and missing.
    """
    if name.startswith(GYM_PREFIX):
        return ReasoningGym(name, args, key=key)
    parameters = inspect.signature(GENERATORS[name]).parameters
    known = tuple(parameters)
    for arg, value in args.items():
        if arg not in known:
            hint = did_you_mean(arg, known, "Remove it.")
            raise DataError(
                f"{key}.args.{arg} = {value!r}: generator '{name}' takes {', '.join(known) or 'no arguments'}. {hint}"
            )
        if isinstance(parameters[arg].default, str):
            continue  # the generator says what it allows
        if type(value) is not int:
            raise DataError(f"{key}.args.{arg} = {value!r}: must be a whole number, such as 3. Write it without quotes")
    try:
        return GENERATORS[name](**args)
    except DataError as error:
        raise DataError(f"{key}.args of generator '{name}': {error}") from None
