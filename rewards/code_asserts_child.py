"""The process in which a dataset's test code runs: ``python -m rewards.code_asserts_child``, by ``rewards.worker``.

The program under test is not here. Its functions are stand-ins: calling one sends name and arguments to our side,
which calls the program in its sandbox, and gives back what it returned, builtin types alone, or raises what it raised.
So nothing that a model wrote can reach the comparison, by whatever ``__eq__``, frame or patched builtin.

A test runs in a thread of its own, for it waits in the middle of an expression; the main thread does the talking.
"""

import ast
import builtins
import importlib
import queue
import random
import threading
from types import TracebackType
from typing import Any, NoReturn

from rewards.code_value import shown
from rewards.sandbox_values import ValueCodecError, decode, encode
from rewards.worker import Message, serve

_CHECK = "__check__"
_MAX_FAILURES = 8
_MAX_SHOWN = 160


class CandidateError(Exception):
    """The program raised something that has no counterpart here."""


class _EndedError(BaseException):
    """The program is over, or its call cannot be made: no ``except Exception`` of a test may go on from here."""


class _StopError(BaseException):
    """A test failed, and the first is enough."""


class Tests:
    """One suite's test code, running in its own thread.

    >>> tests = Tests({"setup": "", "tests": ["assert add(1, 2) == 3"], "names": ["add"], "modules": []})
    >>> tests.next_message()
    {'call': 'add', 'args': '[1,2]', 'kwargs': '{"dict":[]}'}
    >>> tests.answer({"value": "4"})
    >>> tests.next_message()["failures"]
    ['assert add(1, 2) == 3: add returned 4']
    """

    def __init__(self, request: Message) -> None:
        self._request = request
        self._outgoing: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._last_call = ""
        self._num_calls = 0
        self._calls_at_last_check = 0
        self._num_passed = 0
        self._num_failed = 0
        self._failures: list[str] = []
        self._problem = ""  # of the tests, not of the program
        threading.Thread(target=self._run, daemon=True).start()

    def next_message(self) -> Message:
        """A call that the test wants made, or, at its end, what it found."""
        return self._outgoing.get()

    def answer(self, message: Message) -> None:
        """What a call came to: ``value``, or ``raised``, or ``ended``."""
        self._incoming.put(message)

    def call(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        """Call a function of the program, from test code."""
        self._num_calls += 1
        try:
            message = {"call": name, "args": encode(list(args)).decode(), "kwargs": encode(kwargs).decode()}
        except ValueCodecError as error:
            self._problem = f"what the tests give {name} does not cross into a sandbox: {error}"
            raise _EndedError from None
        self._outgoing.put(message)
        reply = self._incoming.get()
        if "ended" in reply:
            raise _EndedError
        if "raised" in reply:
            self._last_call = f"{name} raised {reply['raised']}"
            _raise(str(reply["raised"]))
        value = decode(str(reply["value"]).encode())
        self._last_call = f"{name} returned {shown(value)}"
        return value

    def check(self, text: str) -> "_Check":
        """Stands around every ``assert`` of the tests."""
        return _Check(self, text)

    def passed(self) -> None:
        """An assertion held; one that has called nothing says nothing of the program."""
        if self._num_calls > self._calls_at_last_check:
            self._num_passed += 1
            self._calls_at_last_check = self._num_calls

    def failed(self, text: str, error: BaseException) -> None:
        self._num_failed += 1
        self._calls_at_last_check = self._num_calls
        if len(self._failures) < _MAX_FAILURES:
            why = self._last_call or _describe(error)
            self._failures.append(f"{' '.join(text.split())[:_MAX_SHOWN]}: {why}")
        if self._request.get("stop"):
            raise _StopError from None

    def _run(self) -> None:
        is_whole, num_asserts = True, 0
        random.seed(0)  # tests draw inputs; the same answer is to meet the same ones
        try:
            sources = [self._request["setup"], *self._request["tests"]]
            pieces = [_instrumented(source) for source in sources]
            num_asserts = sum(map(_num_asserts, pieces))
            namespace = self._namespace()
            for source, piece in zip(sources, pieces, strict=True):
                is_whole &= self._run_piece(source, piece, namespace)
        except (_EndedError, _StopError):
            is_whole = False
        except BaseException as error:
            self._problem = f"the tests cannot be run: {_describe(error)}"
        counted = self._num_passed + self._num_failed
        self._outgoing.put(
            {
                "num_passed": self._num_passed,
                "num_tests": counted if is_whole else max(counted, num_asserts, 1),
                "num_calls": self._num_calls,
                "failures": self._failures,
                "problem": self._problem,
            }
        )

    def _run_piece(self, source: str, piece: ast.Module, namespace: dict[str, object]) -> bool:
        """Whether it ran to its end. A piece that checks without ``assert`` counts as one check.

        What is raised before the program is called is not the program's doing.
        """
        before, calls = self._num_passed + self._num_failed, self._num_calls
        try:
            exec(compile(piece, "<tests>", "exec"), namespace)
        except Exception as error:
            if self._num_calls == calls and not isinstance(error, AssertionError):
                raise
            self.failed(source, error)
            return False
        if self._num_passed + self._num_failed == before and self._num_calls > calls:
            self._num_passed += 1
        return True

    def _namespace(self) -> dict[str, object]:
        names: dict[str, object] = {"__name__": "tests", _CHECK: self.check}
        names |= {name: importlib.import_module(name) for name in self._request["modules"]}
        return names | {name: _stand_in(self, name) for name in self._request["names"]}


class _Check:
    def __init__(self, tests: Tests, text: str) -> None:
        self._tests = tests
        self._text = text

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._tests.passed()
        elif isinstance(error, Exception):
            self._tests.failed(self._text, error)
            return True
        return False


class _Instrument(ast.NodeTransformer):
    """Puts every assertion into a ``with`` block that notes how it ended, and goes on."""

    def visit_Assert(self, node: ast.Assert) -> ast.With:
        check = ast.Call(ast.Name(_CHECK, ast.Load()), [ast.Constant(ast.unparse(node))], [])
        return ast.With(items=[ast.withitem(context_expr=check)], body=[node])


def main() -> None:
    running: list[Tests] = []

    def handle(request: Message) -> Message:
        if "tests" in request:
            running[:] = [Tests(request)]
        else:
            running[0].answer(request)
        return running[0].next_message()

    serve(handle, ready={"ready": True})


def _stand_in(tests: Tests, name: str) -> Any:
    def candidate(*args: object, **kwargs: object) -> Any:
        return tests.call(name, args, kwargs)

    candidate.__name__ = candidate.__qualname__ = name
    return candidate


def _instrumented(source: str) -> ast.Module:
    tree = _Instrument().visit(ast.parse(source))
    assert isinstance(tree, ast.Module)
    return ast.fix_missing_locations(tree)


def _num_asserts(tree: ast.Module) -> int:
    """Those that may say something of the program."""
    return sum(isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant) for node in ast.walk(tree))


def _raise(error: str) -> NoReturn:
    """What the program raised, as the same builtin exception where there is one: a test may expect it."""
    name, _, message = error.partition(": ")
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            raised = kind(message)
        except TypeError:  # UnicodeDecodeError and the like are made of more than a message
            raised = CandidateError(error)
        raise raised
    raise CandidateError(error)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_SHOWN]


if __name__ == "__main__":
    main()
