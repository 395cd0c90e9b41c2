"""Runs a function as several ranks of a real process group: fresh processes, gloo over the loopback interface.

Ranks are forked from a server that has imported torch and transformers and done nothing else (no thread, no random
number drawn), so they start in milliseconds and inherit nothing from the test. None outlives the test that runs it.
"""

import ctypes
import datetime
import faulthandler
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import torch
from torch import distributed

TIMEOUT_S = 60.0
_PR_SET_PDEATHSIG = 1
_TRACEBACK_GRACE_S = 0.5
_MODULES = (
    "torch",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen3_moe.modeling_qwen3_moe",
)

P = ParamSpec("P")
R = TypeVar("R")


class RankError(Exception):
    """A rank raised, died or did not end in time; the text names it, with its traceback where there is one."""


def run(function: Callable[Concatenate[int, P], R], num_processes: int, *args: P.args, **kwargs: P.kwargs) -> list[R]:
    """``function(rank, *args, **kwargs)`` on each rank of the default process group; the results by rank.

    Args:
        function: of module level; it, its arguments and its results are pickled.

    Raises:
        RankError: one rank failed, which ends all.
    """
    work = pickle.dumps((function, args, kwargs))
    with tempfile.TemporaryDirectory() as folder:
        ranks = [_Rank(rank, num_processes, Path(folder), work) for rank in range(num_processes)]
        try:
            results = _results(ranks, Path(folder))
            for rank in ranks:
                rank.leave()
        finally:
            for rank in ranks:
                rank.kill()
    return results


class _Rank:
    """The parent's side of one rank."""

    def __init__(self, rank: int, num_processes: int, folder: Path, work: bytes) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_MODULES))
        self.name = f"rank {rank} of {num_processes}"
        self.connection, theirs = context.Pipe()
        self.process: ForkServerProcess = context.Process(
            target=_serve, args=(rank, num_processes, str(folder), work, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def result(self) -> Any:
        """What it sent, which must be there to read."""
        try:
            ok, value = pickle.loads(self.connection.recv_bytes())
        except EOFError:
            self.process.join()
            raise RankError(f"{self.name} died with exit code {self.process.exitcode}") from None
        if not ok:
            raise RankError(f"{self.name} raised:\n{value}")
        return value

    def leave(self) -> None:
        """Let it go, all results being there."""
        self.connection.send_bytes(b"leave")
        self.process.join(_TRACEBACK_GRACE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()


def _results(ranks: Sequence[_Rank], folder: Path) -> list[Any]:
    deadline = time.monotonic() + TIMEOUT_S
    results: dict[int, Any] = {}
    while len(results) < len(ranks):
        waiting = [i for i in range(len(ranks)) if i not in results]
        ready = wait([ranks[i].connection for i in waiting], max(0.0, deadline - time.monotonic()))
        if not ready:
            _raise_timeout([ranks[i] for i in waiting], folder)
        # the dead first: what their peers say is a consequence
        heard = [i for i in waiting if ranks[i].connection in ready]
        for i in sorted(heard, key=lambda i: ranks[i].process.is_alive()):
            results[i] = ranks[i].result()
    return [results[i] for i in range(len(ranks))]


def _raise_timeout(late: Sequence[_Rank], folder: Path) -> NoReturn:
    for rank in late:
        os.kill(rank.process.pid or 0, signal.SIGUSR1)  # writes its stack
    time.sleep(_TRACEBACK_GRACE_S)
    stacks = "\n".join(path.read_text() for path in sorted(folder.glob("*.stack")))
    raise RankError(f"{', '.join(rank.name for rank in late)} did not end in {TIMEOUT_S:.0f} s:\n{stacks}")


def _serve(rank: int, num_processes: int, folder: str, work: bytes, parent: "Connection[Any, Any]") -> None:
    """The life of one rank. Having answered it waits, lest its leaving be what the other ranks stumble over."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the server ends when the test's process does
    with (Path(folder) / f"{rank}.stack").open("w") as stack:
        faulthandler.register(signal.SIGUSR1, file=stack)
        parent.send_bytes(_answer(rank, num_processes, folder, work))
        parent.recv_bytes()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _answer(rank: int, num_processes: int, folder: str, work: bytes) -> bytes:
    try:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.set_num_threads(1)
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=num_processes,
            timeout=datetime.timedelta(seconds=TIMEOUT_S),
        )
        function, args, kwargs = pickle.loads(work)
        return pickle.dumps((True, function(rank, *args, **kwargs)))
    except BaseException:  # whatever it is, the parent raises it
        return pickle.dumps((False, traceback.format_exc()))
