"""The processes that a run starts on this machine beside its own: those of the learner, watched until the run ends."""

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from grpo.learner.team import Membership
from grpo.processes import Child
from grpo.recipe import Recipe

_LOOK_S = 0.2
_LAST_MOMENT_S = 20.0  # for this process to end by itself, having lost one that it needs


class Crew:
    """Starts the learner's other processes; ends with all of them.

    One that dies ends the run: this process learns of it from the collective that fails, or else, where it waits for
    something that will never come, is ended from here.
    """

    def __init__(self, recipe: Recipe, *, device: str, logs: Path) -> None:
        size = recipe.parallel.num_processes
        threads = max(1, len(os.sched_getaffinity(0)) // size) if device == "cpu" else None
        address = f"tcp://127.0.0.1:{_free_port()}"
        self.membership = Membership(rank=0, address=address, num_threads=threads)
        environment = {"GLOO_SOCKET_IFNAME": os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._children: list[Child] = []
        self._closing = threading.Event()
        for rank in range(1, size):
            child = Child(
                f"learner rank {rank}",
                "grpo.learner.rank_process",
                log=logs / f"rank-{rank}.log",
                environment=environment | {"LOCAL_RANK": str(rank)},
            )
            self._children.append(child)
            child.send((recipe, Membership(rank=rank, address=address, num_threads=threads), device))
        self._watch = threading.Thread(target=self._watch_children, daemon=True)
        self._watch.start()

    def obituaries(self) -> str:
        """Of those that have ended; empty while all are alive."""
        return "; ".join(child.obituary() for child in self._dead())

    def close(self, *, dismissed: bool = False) -> None:
        """End those that are left; those that were ``dismissed`` get a moment to end by themselves."""
        self._closing.set()
        for child in self._children:
            if dismissed:
                child.end()
            elif child.is_alive():
                child.kill()

    def _dead(self) -> Sequence[Child]:
        return [child for child in self._children if not child.is_alive()]

    def _watch_children(self) -> None:
        while not self._closing.wait(_LOOK_S):
            if self._dead():
                break
        if self._closing.wait(_LAST_MOMENT_S):
            return
        os.write(2, f"error: {self.obituaries()}\n".encode())
        for child in self._children:
            child.kill()
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
