"""The process in which a dataset's test code runs: ``python -m rewards.code_asserts_child``, by ``rewards.worker``.

The program under test is not here. Its names are stand-ins (``rewards.code_handle``): what is asked of them is asked of
the program in its sandbox, by way of our side, and comes back as values of exact types, or as handles. So nothing that
a model wrote can reach the comparison, by whatever ``__eq__``, frame or patched builtin.

A test runs in a thread of its own, for it waits in the middle of an expression; the main thread does the talking.
"""

import ast
import importlib
import queue
import random
import threading
from types import TracebackType

from rewards.code_caller import Caller, EndedError
from rewards.code_instrument import CHECK, READ, instrumented, num_asserts
from rewards.worker import Message, serve

_MAX_FAILURES = 8
_MAX_SHOWN = 160
_MAX_PART = 400_000  # characters of one message


class _StopError(BaseException):
    """A test failed, and the first is enough."""


class Tests:
    """One suite's test code, running in its own thread.

    >>> tests = Tests({"setup": "", "tests": ["assert add(1, 2) == 3"], "program": ["add"]})
    >>> tests.next_message()
    {'call': '["call",[{"ref":"add"},1,2],{"dict":[]}]'}
    >>> tests.answer({"reply": '["returned",4,[]]'})
    >>> tests.next_message()["failures"]
    ['assert add(1, 2) == 3: add returned 4']
    """

    def __init__(self, request: Message) -> None:
        self._request = request
        self._outgoing: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Message] = queue.SimpleQueue()
        errors = request.get("errors", ())
        self._asked_names = set(request["program"]) - set(errors)
        self._caller = Caller(self._exchange, request["program"], request.get("classes", ()), errors)
        self._calls_at_last_check = 0
        self._num_passed = 0
        self._num_failed = 0
        self._failures: list[str] = []
        threading.Thread(target=self._run, daemon=True).start()

    def next_message(self) -> Message:
        """A call that the test wants made, or, at its end, what it found."""
        return self._outgoing.get()

    def answer(self, message: Message) -> None:
        """What a call came to: ``reply``, or ``ended``; to a part of a call, anything."""
        self._incoming.put(message)

    def check(self, text: str, goes_on: bool) -> "_Check":
        """Stands around every ``assert`` of the tests."""
        return _Check(self, text, goes_on=goes_on)

    def passed(self) -> None:
        """An assertion held; one that has called nothing says nothing of the program."""
        if self._caller.num_calls > self._calls_at_last_check:
            self._num_passed += 1
            self._calls_at_last_check = self._caller.num_calls

    def failed(self, text: str, error: BaseException) -> None:
        self._num_failed += 1
        self._calls_at_last_check = self._caller.num_calls
        if len(self._failures) < _MAX_FAILURES:
            why = self._caller.last() or _describe(error)
            self._failures.append(f"{' '.join(text.split())[:_MAX_SHOWN]}: {why}")
        if self._request.get("stop"):
            raise _StopError from None

    def _exchange(self, request: str) -> str:
        for start in range(0, len(request) - _MAX_PART, _MAX_PART):
            self._outgoing.put({"part": request[start : start + _MAX_PART]})
            self._incoming.get()
        rest = (len(request) - 1) // _MAX_PART * _MAX_PART
        self._outgoing.put({"call": request[rest:]})
        reply = self._incoming.get()
        if "ended" in reply:
            raise EndedError
        return str(reply["reply"])

    def _run(self) -> None:
        is_whole, expected, problem = True, 0, ""
        random.seed(0)  # tests draw inputs; the same answer is to meet the same ones
        try:
            sources = [self._request["setup"], *self._request["tests"]]
            pieces = [instrumented(source, self._asked_names) for source in sources]
            expected = sum(map(num_asserts, pieces))
            namespace = self._namespace()
            for source, piece in zip(sources, pieces, strict=True):
                is_whole &= self._run_piece(source, piece, namespace)
        except (EndedError, _StopError):
            is_whole = False
        except BaseException as error:
            problem = f"the tests cannot be run: {_describe(error)}"
        counted = self._num_passed + self._num_failed
        self._outgoing.put(
            {
                "num_passed": self._num_passed,
                "num_tests": counted if is_whole else max(counted, expected, 1),
                "num_calls": self._caller.num_calls,
                "failures": self._failures,
                "problem": problem or self._caller.problem,
                "doubt": "; ".join(self._caller.doubts[:1]),
            }
        )

    def _run_piece(self, source: str, piece: ast.Module, namespace: dict[str, object]) -> bool:
        """Whether it ran to its end. A piece that checks without ``assert`` counts as one check.

        What is raised before the program is called is not the program's doing.
        """
        before, calls = self._num_passed + self._num_failed, self._caller.num_calls
        try:
            exec(compile(piece, "<tests>", "exec"), namespace)
        except Exception as error:
            if self._caller.num_calls == calls and not isinstance(error, AssertionError):
                raise
            self.failed(source, error)
            return False
        if self._num_passed + self._num_failed == before and self._caller.num_calls > calls:
            self._num_passed += 1
        return True

    def _namespace(self) -> dict[str, object]:
        names: dict[str, object] = {"__name__": "tests"}
        exec(compile(self._request.get("helpers", ""), "<prompt>", "exec"), names)
        names |= {name: importlib.import_module(name) for name in self._request.get("modules", ())}
        return names | self._caller.names | {CHECK: self.check, READ: self._caller.read}


class _Check:
    def __init__(self, tests: Tests, text: str, *, goes_on: bool) -> None:
        self._tests = tests
        self._text = text
        self._goes_on = goes_on

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._tests.passed()
        elif self._goes_on and isinstance(error, Exception):
            self._tests.failed(self._text, error)
            return True
        return False


def main() -> None:
    running: list[Tests] = []

    def handle(request: Message) -> Message:
        if "tests" in request:
            running[:] = [Tests(request)]
        else:
            running[0].answer(request)
        return running[0].next_message()

    serve(handle, ready={"ready": True})


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_SHOWN]


if __name__ == "__main__":
    main()
