"""As many killable workers as asked, behind the same call as one: the pool in which verifiers do their work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rewards.arguments import check_whole
from rewards.worker import Limits, Message, Worker, WorkerDiedError


class Pool:
    """Up to ``num_workers`` children of one module. A caller takes the one used last, so that idle ones stay idle.

    Children start as they are first needed: a pool of eight that is asked one thing at a time runs one process. Each
    answers one request at a time within ``limits``; past them it is killed, reaped and replaced (``rewards.worker``),
    so no request that runs away ever holds a place. Call it from as many threads as there are workers; further
    callers wait their turn, and their waiting counts towards no limit.

    >>> pool = Pool("rewards.math_child", Limits(), num_workers=2)
    >>> pool.ask({"op": "canonical", "text": "x + 0"})["canonical"]
    'x'
    >>> pool.close()
    """

    def __init__(self, module: str, limits: Limits, num_workers: int = 1, arguments: tuple[str, ...] = ()) -> None:
        """``arguments``: what the module's process gets on its command line after the limits.

        Raises:
            ValueError: there is less than one worker.
        """
        check_whole("num_workers", num_workers, 1)
        self.limits = limits
        self._workers = tuple(Worker(module, limits, arguments) for _ in range(num_workers))
        self._free = list(reversed(self._workers))
        self._freed = threading.Condition()
        self._num_waiting = 0

    @property
    def num_workers(self) -> int:
        return len(self._workers)

    @property
    def num_waiting(self) -> int:
        """Callers waiting for a free worker: the depth of the queue."""
        return self._num_waiting

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run now."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    @property
    def num_replaced(self) -> int:
        """Children that were killed or died, and have been reaped, since the pool was made."""
        return sum(worker.num_replaced for worker in self._workers)

    def greeting(self) -> Message:
        """What a child said when it was ready; starts one if there is none.

        Raises:
            WorkerDiedError: it could not start.
        """
        return self._workers[0].greeting()

    def ask(self, request: Message) -> Message:
        """Wait for a free worker, send it one request, and wait for its reply.

        Raises:
            WorkerLimitError: the request ran past a limit.
            WorkerDiedError: the process ended otherwise, or could not start.
        """
        with self.lease() as worker:
            return worker.ask(request)

    def ask_twice(self, request: Message) -> Message:
        """As ``ask``; a child that died is replaced and asked once more: the machine may have killed it."""
        try:
            return self.ask(request)
        except WorkerDiedError:
            return self.ask(request)

    @contextmanager
    def lease(self) -> Iterator[Worker]:
        """Wait for a free worker, for a conversation. One that is broken off ends the child."""
        worker = self._take()
        finished = False
        try:
            yield worker
            finished = True
        finally:
            if not finished:  # the child's next message would be read as another's
                worker.close()
            self._give_back(worker)

    def close(self) -> None:
        """End and reap every child; idempotent. A later request starts another."""
        for worker in self._workers:
            worker.close()

    def _take(self) -> Worker:
        with self._freed:
            self._num_waiting += 1
            try:
                self._freed.wait_for(lambda: self._free)
            finally:
                self._num_waiting -= 1
            return self._free.pop()

    def _give_back(self, worker: Worker) -> None:
        with self._freed:
            self._free.append(worker)
            self._freed.notify()
