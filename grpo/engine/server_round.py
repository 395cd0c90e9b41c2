"""The questions of one sampling round on their way to servers: a thread for each that a server may answer at once."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from grpo.datatypes import Completion
from grpo.engine import server_wire
from grpo.engine.replica import Answer, Question
from grpo.engine.sampling_round import SamplingRound
from grpo.engine.server_client import Hangup, ServerClient, ServerGoneError
from grpo.engine.server_pool import ServerPool

HEALTH_EVERY_S = 10.0  # without an answer, before those that owe one are asked whether they live


class ServerRound:
    """Waits for the threads, which wait for the servers; unblocked by an answer, a lost server, or ``HEALTH_EVERY_S``.

    Args:
        current: who owes what.
        label: of the weights that all servers hold; ``version`` is what the trainer calls them.
        request_id: makes a new one at each call.
    """

    def __init__(
        self,
        pool: ServerPool,
        current: SamplingRound,
        *,
        label: str,
        version: int,
        request_id: Callable[[], str],
    ) -> None:
        self._pool, self._current = pool, current
        self._label, self._version, self._request_id = label, version, request_id
        self._outcomes: queue.SimpleQueue[tuple[ServerClient, Future[Answer]]] = queue.SimpleQueue()
        self._hangup = Hangup()
        self._threads: dict[ServerClient, ThreadPoolExecutor] = {}
        self._answered_at: dict[ServerClient, float] = {}
        self._lock = threading.Lock()

    def answers(self, decode: Callable[[Sequence[int]], str]) -> Iterator[Completion]:
        """Every answer once, as it arrives. Where the iterator is abandoned the rest is cancelled.

        Raises:
            EngineError: a server refused a request, or none is left.
        """
        try:
            self._hand_out(self._current.keys)
            while debtors := [server for server in self._pool.present if self._current.owes(server.name)]:
                outcome = self._next_outcome()
                if outcome is None:
                    self._give_up_silent(debtors)
                    continue
                server, answer = outcome
                death = answer.exception()
                if server not in self._pool.present:
                    continue  # others have been asked what it was asked
                if isinstance(death, ServerGoneError):
                    self._give_up(server, death)
                else:
                    yield self._current.settle(server.name, answer.result(), decode)
        finally:
            self._cancel()

    def _hand_out(self, keys: Iterable[int]) -> None:
        pending = list(keys)
        if not pending:
            return
        servers = {server.name: server for server in self._pool.some_present()}
        for name, share in self._current.shares(pending, list(servers)).items():
            self._current.owe(name, share)
            for question in self._current.questions(share):
                self._submit(servers[name], question)

    def _give_up(self, server: ServerClient, death: ServerGoneError) -> None:
        """Take a server out and ask the others for what it has not answered."""
        self._pool.take_out(server, death)
        self._hand_out(self._current.release(server.name))

    def _give_up_silent(self, debtors: Sequence[ServerClient]) -> None:
        for server in debtors:
            if not server.is_healthy():
                self._give_up(server, ServerGoneError(f"{server.name} does not answer /health any more"))

    def _next_outcome(self) -> tuple[ServerClient, "Future[Answer]"] | None:
        try:
            return self._outcomes.get(timeout=HEALTH_EVERY_S)
        except queue.Empty:
            return None

    def _cancel(self) -> None:
        """Close the connections of what is still on its way, which has the servers abort it, and end the threads."""
        self._hangup.close()
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)

    def _submit(self, server: ServerClient, question: Question) -> None:
        if server not in self._threads:
            size = self._pool.settings(server).max_num_seqs
            self._threads[server] = ThreadPoolExecutor(size, thread_name_prefix=server.name)
            self._answered_at[server] = time.perf_counter()
        answer = self._threads[server].submit(self._ask, server, question)
        answer.add_done_callback(lambda done: self._outcomes.put((server, done)))

    def _ask(self, server: ServerClient, question: Question) -> Answer:
        """In a thread of its own."""
        body = server_wire.sample_body(question, self._request_id())
        patience_s = self._current.longest_s
        response = server.ask("POST", server_wire.GENERATE, body, patience_s=patience_s, hangup=self._hangup)
        read = partial(server_wire.read_answer, response, question, label=self._label, version=self._version)
        return read(busy_s=self._busy_s(server))

    def _busy_s(self, server: ServerClient) -> float:
        """Seconds since the server's last answer: it is busy as long as it owes any."""
        with self._lock:
            before, self._answered_at[server] = self._answered_at[server], time.perf_counter()
            return self._answered_at[server] - before
