"""An engine in a process of its own: ``python -m grpo.engine.replica_process``, started by ``replica.Replica``.

Orders are served one after another. A thread takes them off the connection meanwhile, so that neither side can be
stuck writing to a full pipe that the other does not read, and so that a cancelled order, or a parent that closes
the connection, is noticed between two answers.
"""

import contextlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from grpo.allocator import keep_large_tensors
from grpo.datatypes import Completion, Problem, Prompt
from grpo.engine import make_vllm_engine
from grpo.engine.protocol import Engine, Request
from grpo.engine.replica import Answer, Cancel, Failed, Load, Order, Question, Ready, Sample, Score, Start
from grpo.errors import EngineError, GrpoError, UserError
from grpo.processes import die_with, parent_connection

if TYPE_CHECKING:
    from grpo.engine.vllm_engine.engine import VllmEngine

_STARTER = "GRPO_REPLICA_PID"  # tells the workers of a split engine which process they are to end with


class Orders:
    """Orders as they come, read by a thread of their own."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[tuple[int, Order] | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._closed = False
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def __iter__(self) -> Iterator[tuple[int, Order]]:
        """Every order that still stands, until the parent closes the connection."""
        while (item := self._queue.get()) is not None:
            if not self.is_cancelled(item[0]):
                yield item

    def is_cancelled(self, ticket: int) -> bool:
        return self._closed or ticket in self._cancelled

    def _read(self) -> None:
        while True:
            try:
                ticket, order = self._connection.recv()
            except (EOFError, OSError):
                self._closed = True
                self._queue.put(None)
                return
            if isinstance(order, Cancel):
                self._cancelled.add(ticket)
            else:
                self._queue.put((ticket, order))


class Server:
    """Serves orders with one engine, which the first of them starts."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._orders = Orders(connection)
        self._engine: VllmEngine | None = None

    def run(self) -> None:
        """Until the parent closes the connection. What is no error of ours ends the process: its log has the reason."""
        for ticket, order in self._orders:
            try:
                self._serve(ticket, order)
            except GrpoError as error:
                self._connection.send((ticket, Failed(str(error), isinstance(error, UserError))))
        if self._engine is not None:
            self._engine.close()

    def _serve(self, ticket: int, order: Order) -> None:
        if isinstance(order, Start):
            self._engine = _make(order)
            self._connection.send((ticket, Ready()))
            return
        assert self._engine is not None, "the first order starts the engine"
        match order:
            case Sample(questions):
                self._sample(self._engine, ticket, questions)
            case Load(parcel, version):
                self._connection.send((ticket, self._engine.load_parcel(parcel, version)))
            case Score(token_ids):
                self._connection.send((ticket, self._engine.score(token_ids)))

    def _sample(self, engine: Engine, ticket: int, questions: tuple[Question, ...]) -> None:
        started = time.perf_counter()
        completions = engine.sample([_request(place, question) for place, question in enumerate(questions)])
        for completion in completions:
            busy_s = time.perf_counter() - started
            key = questions[completion.prompt.ordinal].key
            self._connection.send((ticket, _answer(key, completion, busy_s)))
            started = time.perf_counter()
            if self._orders.is_cancelled(ticket):
                break  # which abandons the iterator, and so cancels the rest


def _make(start: Start) -> "VllmEngine":
    if start.rollout.engine != "vllm":
        raise EngineError(f"an engine of kind '{start.rollout.engine}' shares the learner's own weights and process")
    if not start.on_gpu:
        keep_large_tensors()
    return make_vllm_engine(
        model=start.model,
        rollout=start.rollout,
        dtype=start.dtype,
        max_model_len=start.max_model_len,
        decode=lambda _token_ids: "",  # text is made where the tokenizer is: at the other end
        on_gpu=start.on_gpu,
        seed=start.seed,
        engine_args=start.engine_args,
    )


def _request(place: int, question: Question) -> Request:
    problem = Problem(problem_id=question.problem_id, question="", reference="")
    prompt = Prompt(problem=problem, token_ids=question.token_ids, ordinal=place, attempt=question.attempt)
    return Request(prompt=prompt, sample_index=0, seed=question.seed, sampling=question.sampling)


def _answer(key: int, completion: Completion, busy_s: float) -> Answer:
    return Answer(
        key=key,
        token_ids=completion.token_ids,
        behavior_logprobs=completion.behavior_logprobs,
        version=completion.version,
        finish_reason=completion.finish_reason,
        busy_s=busy_s,
    )


def _run() -> None:
    """What escapes ends the process at once, and its workers with it: an interpreter that ends would wait for them."""
    code = 1
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent went while it was being answered
            Server(parent_connection()).run()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)  # the engine is closed; taking the rest of the interpreter apart costs seconds


if __name__ == "__main__":
    os.environ[_STARTER] = str(os.getpid())
    _run()
elif __name__ == "__mp_main__":  # vLLM's workers notice this process' end while they wait for work, and only then
    die_with(int(os.environ[_STARTER]))
