"""reasoning-gym's tasks (arXiv 2505.24760, the package ``reasoning-gym``) as generators without end.

Problems come in blocks, each a small dataset of the package's: its entries have the seeds from the block's first on,
and some tasks make them all at once, or read a large file first. Blocks that train and blocks that are held out
alternate along the range of seeds, so no seed serves both. A problem carries the columns that the reward
``reasoning_gym`` reads.
"""

import difflib
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

from grpo.datatypes import Problem
from grpo.errors import DataError, MissingPackageError, did_you_mean
from grpo.seeds import named_seed

GYM_PREFIX = "reasoning-gym/"
_BLOCK = 64  # problems
_NUM_BLOCKS = 1 << 24  # of a split: seeds stay below 2**31, and tasks that draw with numpy take none from 2**32 on
_REFUSALS = (AssertionError, AttributeError, LookupError, TypeError, ValueError)  # what a task's validation raises
_OURS = ("seed", "size")  # arguments of every task that the stream sets


class ReasoningGym:
    """The task that follows ``reasoning-gym/``, with ``args`` as its configuration.

    Raises:
        DataError: there is no such task, or it refuses its arguments; ``key`` is the recipe section that is named.
        MissingPackageError: the package is missing.
    """

    def __init__(self, path: str, args: Mapping[str, object], *, key: str) -> None:
        self.name = path
        self._task = path.removeprefix(GYM_PREFIX)
        self._args = dict(args)
        self._where = f"{key}.path = {path!r}"
        try:
            from reasoning_gym.factory import DATASETS, create_dataset
        except ImportError:
            raise MissingPackageError(
                f"{self._where} needs the package reasoning-gym. Install it: pip install 'grpo[reasoning-gym]'"
            ) from None
        if self._task not in DATASETS:
            near = difflib.get_close_matches(self._task, DATASETS, n=1)
            hint = f"Did you mean '{GYM_PREFIX}{near[0]}'?" if near else f"It has {', '.join(sorted(DATASETS))}."
            raise DataError(f"{self._where}: reasoning-gym has no task {self._task!r}. {hint}")
        self._create: Any = create_dataset
        self._block = functools.lru_cache(maxsize=4)(self._make_block)
        self._check_args(tuple(inspect.signature(DATASETS[self._task][1]).parameters), key)

    def problem(self, index: int, *, seed: int, held_out: bool) -> Problem:
        """As ``Generator.problem``.

        Raises:
            DataError: the task's columns have no JSON form, so its scorer could not be given them.
        """
        number, place = divmod(index, _BLOCK)
        lap, number = divmod(number, _NUM_BLOCKS)
        start = named_seed("reasoning-gym", self._task, seed, held_out, lap) + number
        entry = self._block((start % _NUM_BLOCKS) * 2 + held_out)[place]
        try:
            metadata = json.loads(json.dumps(entry["metadata"]))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self._where}: its columns cannot be written down ({error}). Choose another") from None
        return Problem(
            problem_id=f"{self.name}/held_out/{index}" if held_out else f"{self.name}/{index}",
            question=str(entry["question"]),
            reference="" if entry["answer"] is None else str(entry["answer"]),
            source=self.name,
            columns={"source_dataset": self._task, "metadata": metadata},
        )

    def size(self, held_out: bool) -> int | None:
        return None

    def _make_block(self, number: int) -> Any:
        return self._create(self._task, seed=number * _BLOCK, size=_BLOCK, **self._args)

    def _check_args(self, known: tuple[str, ...], key: str) -> None:
        settable = [name for name in known if name not in _OURS]
        for name, value in self._args.items():
            if name not in settable:
                hint = did_you_mean(name, settable, "Remove it.")
                raise DataError(
                    f"{key}.args.{name} = {value!r}: task '{self._task}' takes {', '.join(settable) or 'none'}. {hint}"
                )
        try:
            self._make_block(0)[0]
        except _REFUSALS as error:
            reason = str(error).strip() or type(error).__name__
            raise DataError(
                f"{key}.args = {self._args!r}: task '{self._task}' refuses them: {reason}. Mend {key}.args"
            ) from None
