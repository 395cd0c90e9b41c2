"""Requests of our server in their turn: so many at a time, so many waiting, and none of them run twice."""

import hashlib
import json
import threading
from collections import OrderedDict
from concurrent.futures import Future

from rewards.remote_contract import RunRequest, read_request, write_reply
from rewards.sandbox import Sandbox
from rewards.sandbox_program import Outcome, RunStatus

_NUM_KEPT = 4096  # replies kept for requests made again
_MAX_KEPT = 64 << 20  # bytes of them


class BusyError(Exception):
    """As many requests wait as may."""


class RunQueue:
    """Runs requests, a few at a time; one made again under its id gets the reply of the first."""

    def __init__(self, sandbox: Sandbox, num_workers: int, max_queue: int) -> None:
        self._sandbox = sandbox
        self._turn = threading.BoundedSemaphore(num_workers)
        self._lock = threading.Lock()
        self._max_admitted = num_workers + max_queue
        self._num_workers = num_workers
        self._num_admitted = 0
        self._kept: OrderedDict[str, Future[bytes]] = OrderedDict()
        self._num_bytes_kept = 0

    def health(self) -> dict[str, object]:
        running = min(self._num_admitted, self._num_workers)
        return {
            "status": "ok",
            "tier": self._sandbox.tier,
            "running": running,
            "queued": self._num_admitted - running,
            "capacity": self._max_admitted,
        }

    def reply(self, body: bytes, request_id: str | None) -> bytes:
        """The reply, after its turn has come.

        Raises:
            BadRequestError: the body is no such request.
            BusyError: too many wait.
        """
        request = read_request(body)
        if request_id is None:
            return _written(request, self._run(request))
        # The body is part of the key: nobody gets another's reply by guessing an id.
        key = f"{request_id}:{hashlib.sha256(body).hexdigest()}"
        with self._lock:
            known = self._kept.get(key)
            future = known or self._kept.setdefault(key, Future())
        if known is None:
            self._run_for(key, future, request)
        return future.result()

    def _run_for(self, key: str, future: "Future[bytes]", request: RunRequest) -> None:
        """Run it once, for all who ask under its key. A failure of ours is not kept, so that asking again helps."""
        kept = False
        try:
            outcome = self._run(request)
            future.set_result(_written(request, outcome))
            kept = outcome.status is not RunStatus.SANDBOX_FAILURE
        except BusyError as error:
            future.set_exception(error)
        finally:
            if not future.done():  # interrupted: those who wait for it shall ask again
                future.set_exception(BusyError())
            with self._lock:
                self._forget(key, kept=kept)

    def _run(self, request: RunRequest) -> Outcome:
        with self._lock:
            if self._num_admitted >= self._max_admitted:
                raise BusyError
            self._num_admitted += 1
        try:
            with self._turn:
                outcome: Outcome = self._sandbox.run(request.code, stdin=request.stdin, limits=request.limits)
                return outcome
        finally:
            with self._lock:
                self._num_admitted -= 1

    def _forget(self, key: str, *, kept: bool) -> None:
        """The reply under ``key`` unless it is to be ``kept``, and then the oldest while there are too many."""
        if not kept:
            del self._kept[key]
            return
        self._num_bytes_kept += len(self._kept[key].result())
        while len(self._kept) > _NUM_KEPT or self._num_bytes_kept > _MAX_KEPT:
            oldest = next(name for name, future in self._kept.items() if future.done())
            self._num_bytes_kept -= len(self._kept.pop(oldest).result())


def _written(request: RunRequest, outcome: Outcome) -> bytes:
    return json.dumps(write_reply(request, outcome)).encode()
