"""Several learner processes that act as one: the trainer speaks with the first, and the others do as it does.

What the first is asked to do, it says to all (``Leader``), and each does its part (``follow``). A word goes through the
store that the processes met at, so that a follower can wait for hours while answers are sampled; everything within an
operation is collective, and bounded by ``parallel.timeout_s``.
"""

import functools
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from grpo.datatypes import Sample
from grpo.errors import GrpoError, LearnerError, RecipeError
from grpo.learner.learner import Learner, StepStats
from grpo.learner.mesh import Mesh, connect
from grpo.learner.policy import Policy
from grpo.recipe import Recipe

P = ParamSpec("P")
R = TypeVar("R")
_SOON_S, _OFTEN_S, _SELDOM_S = 1.0, 0.001, 0.02  # a follower that has heard nothing for a while listens less often
_END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which of the learner's processes this is, and where they meet.

    Attributes:
        address: ``tcp://host:port``, or ``env://`` where a launcher (torchrun, accelerate) has said it.
        num_threads: CPU threads of this process; None leaves them as they are.
    """

    rank: int
    address: str
    num_threads: int | None = None

    @classmethod
    def from_launcher(cls) -> "Membership | None":
        """As torchrun's environment has it; None where no launcher started this process."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return None
        return cls(rank=int(os.environ["RANK"]), address="env://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a policy comes from, and in which formats it is kept and computed with."""

    path: str
    dtype: torch.dtype
    arithmetic: torch.dtype
    device: str
    gradient_checkpointing: bool

    def load(self, mesh: Mesh) -> Policy:
        return Policy.load(
            self.path,
            dtype=self.dtype,
            arithmetic=self.arithmetic,
            device=self.device,
            gradient_checkpointing=self.gradient_checkpointing,
            mesh=mesh,
        )


def join(recipe: Recipe, membership: Membership, *, device: str) -> Mesh:
    """Meet the other processes.

    Raises:
        LearnerError: not all of them came in time.
    """
    if membership.num_threads is not None:
        torch.set_num_threads(membership.num_threads)
    if device == "cuda":
        place = int(os.environ.get("LOCAL_RANK", membership.rank))
        if place >= torch.cuda.device_count():
            raise RecipeError(
                "parallel",
                recipe.parallel.num_processes,
                f"learner process {place} here needs a GPU of its own, and there are {torch.cuda.device_count()}",
                "Start fewer on this machine, or make the sizes smaller.",
            )
        torch.cuda.set_device(place)
    try:
        return connect(
            recipe.parallel,
            rank=membership.rank,
            address=membership.address,
            device=device,
            patience_s=recipe.parallel.timeout_s,
        )
    except (RuntimeError, ValueError) as error:
        num = recipe.parallel.num_processes
        raise LearnerError(
            f"learner rank {membership.rank} did not meet the other {num - 1} at {membership.address} within "
            f"{recipe.parallel.timeout_s:.0f} s: {error}"
        ) from error


def leave() -> None:
    """Part from the others, if they have met."""
    if dist.is_initialized():
        dist.destroy_process_group()


def follow(recipe: Recipe, mesh: Mesh) -> None:
    """Do what the leader does until it says that the run has ended, or is gone.

    Interrupts are the leader's to hear: it finishes the step, and needs the others for that.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    origin: Origin = _share(None)
    learner = Learner(origin.load(mesh), recipe)
    num_done = 0
    while (word := _listen(num_done, mesh.rank)) != _END:
        _do(learner, *word, rank=mesh.rank)
        num_done += 1
        _store().set(_done_key(mesh.rank), str(num_done))


def _do(learner: Learner, name: str, args: tuple[Any, ...], *, rank: int) -> None:
    try:
        result = getattr(learner, name)(*args)
        if isinstance(result, Iterator):
            for _ in result:
                pass
    except GrpoError:
        raise
    except RuntimeError as error:
        lost = "the learner's processes lost each other: " if _is_lost(error) else ""
        raise LearnerError(f"learner rank {rank}, {name}: {lost}{type(error).__name__}: {error}") from error


def _collective(method: Callable[Concatenate["Leader", P], R]) -> Callable[Concatenate["Leader", P], R]:
    """Have all processes do it, and say which one failed."""

    @functools.wraps(method)
    def lead(self: "Leader", *args: P.args, **kwargs: P.kwargs) -> R:
        assert not kwargs, "what is said to all has no names"
        self._say(method.__name__, args)
        try:
            return method(self, *args, **kwargs)
        except GrpoError:
            raise
        except RuntimeError as error:
            raise LearnerError(self._blame(method.__name__, error)) from error

    return cast(Callable[Concatenate["Leader", P], R], lead)


class Leader(Learner):
    """The learner of the first process, which the trainer speaks with."""

    def __init__(self, origin: Origin, recipe: Recipe, mesh: Mesh, obituaries: Callable[[], str]) -> None:
        """``obituaries``: of the processes that this one started, those that have ended, and how."""
        self._number = 0
        self._size = mesh.sizes.num_processes
        self._obituaries = obituaries
        try:
            _share(origin)
            super().__init__(origin.load(mesh), recipe)
        except GrpoError:
            raise
        except RuntimeError as error:
            raise LearnerError(self._blame("loading the model", error)) from error

    @_collective
    def step(self, samples: Sequence[Sample]) -> StepStats:
        return super().step(samples)

    @_collective
    def with_old_logprobs(self, samples: Sequence[Sample]) -> list[Sample]:
        return super().with_old_logprobs(samples)

    @_collective
    def kl(self, samples: Sequence[Sample]) -> list[float]:
        return super().kl(samples)

    @_collective
    def refresh_reference(self) -> None:
        super().refresh_reference()

    @_collective
    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return super().score(token_ids)

    @_collective
    def router_margin(self, token_ids: Sequence[int]) -> float:
        return super().router_margin(token_ids)

    @_collective
    def save(self, folder: Path) -> None:
        super().save(folder)

    @_collective
    def load_state(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        super().load_state(tensors, num_updates)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        return self._gathered("named_tensors", super().named_tensors())

    def state_tensors(self) -> Iterator[tuple[str, Tensor]]:
        return self._gathered("state_tensors", super().state_tensors())

    def _gathered(self, name: str, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """All processes gather them, as fast as the first one takes them, which must be to the end."""
        self._say(name, ())
        while True:
            try:
                named = next(tensors, None)
            except RuntimeError as error:
                raise LearnerError(self._blame(name, error)) from error
            if named is None:
                return
            yield named

    def dismiss(self) -> None:
        """Let the others end."""
        _store().set(_word_key(self._number), pickle.dumps(_END))

    def _say(self, name: str, args: tuple[Any, ...]) -> None:
        try:
            _store().set(_word_key(self._number), pickle.dumps(name))
            self._number += 1
            _share(args)
        except RuntimeError as error:
            raise LearnerError(self._blame(name, error)) from error

    def _blame(self, what: str, error: Exception) -> str:
        """Whose doing it was: a process that has ended, this one, or else those that are behind."""
        if dead := self._obituaries():
            return f"{what} (update {self.num_updates if hasattr(self, 'optimizer') else 0}): {dead}"
        if not _is_lost(error):
            return f"learner rank 0, {what}: {type(error).__name__}: {error}"
        others = range(1, self._size)
        deaf = [rank for rank in others if _number_at(_heard_key(rank)) < self._number]
        late = deaf or [rank for rank in others if _number_at(_done_key(rank)) < self._number]
        behind = f" learner rank {', '.join(map(str, late))} did not {'hear of it' if deaf else 'come to its end'};"
        reason = str(error).strip().splitlines()[0]
        return f"{what}:{behind if late else ''} the learner's processes lost each other ({reason})"


def _is_lost(error: Exception) -> bool:
    """Whether a collective failed, rather than what this process computed by itself."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Connection"))


def _share(item: Any) -> Any:
    """The first process' item, everywhere."""
    items = [item]
    dist.broadcast_object_list(items, src=0)
    return items[0]


def _listen(number: int, rank: int) -> Any:
    """The leader's next word, with its arguments.

    Raises:
        LearnerError: the leader is gone.
    """
    began = time.monotonic()
    try:
        while not _store().check([_word_key(number)]):
            time.sleep(_OFTEN_S if time.monotonic() - began < _SOON_S else _SELDOM_S)
        name = pickle.loads(_store().get(_word_key(number)))
        _store().set(_heard_key(rank), str(number + 1))
    except RuntimeError as error:
        raise LearnerError(f"the first of the learner's processes is gone: {error}") from error
    return _END if name == _END else (name, _share(None))


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _word_key(number: int) -> str:
    return f"grpo/word/{number}"


def _heard_key(rank: int) -> str:
    return f"grpo/heard/{rank}"


def _done_key(rank: int) -> str:
    return f"grpo/done/{rank}"


def _number_at(key: str) -> int:
    """How many words a rank has heard, or has done."""
    return int(_store().get(key)) if _store().check([key]) else 0
