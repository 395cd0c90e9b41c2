"""Assert suites: test code runs on the trusted side, in a child of ours, and calls the program in its sandbox.

Between the two stands this module: it passes each call on to a session of the sandbox and each result back, as plain
builtin values.
"""

import ast
import builtins
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from rewards.code_program import Program, completed
from rewards.code_runs import failure_of
from rewards.code_suite import AssertSuite, Failure, SuiteResult
from rewards.pool import Pool
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.sandbox_values import ValueCodecError, decode, encode
from rewards.verdict import Status
from rewards.worker import Limits, Message, Worker, WorkerDiedError, WorkerLimitError

if TYPE_CHECKING:
    from rewards.sandbox import Sandbox

_CHILD = "rewards.code_asserts_child"
_BUILTINS = frozenset(dir(builtins))
_DEFINED = re.compile(r"^(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)|^(\w+)[ \t]*=(?!=)", re.MULTILINE)


class Session(Protocol):
    """A program that runs in the sandbox, and is called several times."""

    def call(self, function: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Outcome: ...


class AssertPool(Pool):
    """Up to ``num_workers`` children that run test code, each held for one suite at a time."""

    def __init__(self, num_workers: int = 1, *, cpu_s: float = 10.0, wall_s: float = 60.0) -> None:
        """``cpu_s``, ``wall_s``: what the tests' own code may take between two calls of the program.

        Raises:
            ValueError: there is less than one worker.
        """
        super().__init__(_CHILD, Limits(cpu_s=cpu_s, wall_s=wall_s, memory_bytes=1 << 30, on_top=True), num_workers)

    def run(
        self, sandbox: "Sandbox", code: str, suite: AssertSuite, *, limits: SandboxLimits, stop_at_first: bool
    ) -> SuiteResult:
        """Test a program. ``limits`` hold for all calls together. What fails on our side is tried once more."""
        program = completed(code, suite)
        request = _request(suite, stop_at_first)
        try:
            result = self._attempt(sandbox, program, request, limits)
            if any(not failure.status.has_score for failure in result.failures):
                result = self._attempt(sandbox, program, request, limits)
        except WorkerLimitError as error:
            return self._past_limit(sandbox, suite, request, limits, str(error))
        return result

    def _attempt(self, sandbox: "Sandbox", program: Program, request: Message, limits: SandboxLimits) -> SuiteResult:
        """Raises WorkerLimitError where the tests' own code ran past its limit."""
        with self.lease() as worker:
            try:
                with sandbox.session(program.text, limits=limits) as session:
                    return _converse(worker, session, program, request)
            except WorkerDiedError as error:
                return _unscored(f"the process of the tests: {error}")

    def _past_limit(
        self, sandbox: "Sandbox", suite: AssertSuite, request: Message, limits: SandboxLimits, error: str
    ) -> SuiteResult:
        """Whose doing it was: the program's, by what it returned, where the tests of a right program end in time."""
        if suite.reference:
            with suppress(WorkerLimitError):
                right = self._attempt(sandbox, completed(suite.reference, suite), request, limits)
                if not right.failures:
                    failure = Failure(status=Status.TIMEOUT, reason=f"with what it returned, the tests' code {error}")
                    return SuiteResult(num_passed=0, num_tests=right.num_tests, failures=(failure,))
        return _unscored(f"the tests' own code {error}")


def stand_ins(suite: AssertSuite) -> tuple[list[str], list[str]]:
    """The names in the test code that mean the program's functions, and those that mean modules.

    Every name is a function's that the tests use and nothing of theirs defines. A builtin's name is one only where the
    reference program, or else the shape of the test, says so: a program that defines its own ``abs`` must not have
    the tests compare with it.

    >>> stand_ins(AssertSuite(tests=("assert math.isclose(area(2), 4)", "assert sum(1, 2) == 3")))
    (['area', 'sum'], ['math'])

    Raises:
        ValueError: the test code is no Python.
    """
    pieces = [_parsed(source) for source in (suite.setup, *suite.tests)]
    nodes = [node for piece in pieces for node in ast.walk(piece)]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    free = used - _defined_in_tests(nodes)
    bases = {node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    own = {one or other for one, other in _DEFINED.findall(f"{suite.prompt}\n{suite.reference}")} | {suite.entry_point}
    names = (free - _BUILTINS) | (free & own)
    modules = {name for name in names & bases - own if name in sys.stdlib_module_names}
    names -= modules
    if not own - {""}:
        names |= {name for piece in pieces[1:] if (name := _outermost_builtin(piece, names))}
    return sorted(names), sorted(modules)


def _request(suite: AssertSuite, stop_at_first: bool) -> Message:
    names, modules = stand_ins(suite)
    return {"setup": suite.setup, "tests": suite.tests, "names": names, "modules": modules, "stop": stop_at_first}


def _converse(worker: Worker, session: Session, program: Program, request: Message) -> SuiteResult:
    """Make the calls that the tests ask for, until they are done."""
    ended: Failure | None = None
    reply = worker.ask(request)
    while "call" in reply:
        args, kwargs = _decoded(reply["args"]), _decoded(reply["kwargs"])
        outcome = session.call(str(reply["call"]), args, kwargs)
        if outcome.status not in (RunStatus.FINISHED, RunStatus.RUNTIME_ERROR):
            ended = failure_of(outcome, program)
            reply = worker.ask({"ended": True})
        else:
            reply = worker.ask(_answer(outcome))
    if reply["problem"]:
        return _unscored(str(reply["problem"]))
    failures = [Failure(status=Status.WRONG, reason=reason) for reason in reply["failures"]]
    if ended is not None:
        failures.append(ended)
    if not reply["num_calls"] and not failures:
        return _unscored("the tests never call the program")
    return SuiteResult(num_passed=reply["num_passed"], num_tests=reply["num_tests"], failures=tuple(failures))


def _answer(outcome: Outcome) -> Message:
    if outcome.status is RunStatus.RUNTIME_ERROR:
        return {"raised": outcome.error[:1000]}
    try:
        return {"value": encode(outcome.value).decode()}
    except ValueCodecError as error:
        return {"raised": f"ValueError: it returned {error}"}


def _decoded(text: object) -> Any:
    return decode(str(text).encode())


def _defined_in_tests(nodes: list[ast.AST]) -> set[str]:
    defined: set[str] = set()
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                defined.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.alias(name=name, asname=given):
                defined.add(given or name.partition(".")[0])
    return defined


def _outermost_builtin(piece: ast.Module, names: set[str]) -> str | None:
    """The builtin's name that an assertion must mean the program's function by, for it calls nothing else."""
    called = [
        node.func.id for node in ast.walk(piece) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return called[0] if called and not names & set(called) else None


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"the test code is no Python: {error}") from error


def _unscored(reason: str) -> SuiteResult:
    return SuiteResult(num_passed=0, num_tests=1, failures=(Failure(status=Status.HARNESS_ERROR, reason=reason),))
