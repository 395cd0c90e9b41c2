"""Assert suites: test code runs on the trusted side, in a child of ours, and calls the program in its sandbox.

Between the two stands this module: it passes each request on to a session of the sandbox and each reply back, unread.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rewards.code_names import Names, read_names
from rewards.code_program import BRIDGE, Program, answering, completed
from rewards.code_runs import failure_of
from rewards.code_suite import AssertSuite, Failure, SuiteResult
from rewards.pool import Pool
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.verdict import Status
from rewards.worker import Limits, Message, Worker, WorkerDiedError, WorkerLimitError

if TYPE_CHECKING:
    from rewards.sandbox import Sandbox

_CHILD = "rewards.code_asserts_child"
_OUTPUT_BYTES = 8 << 20  # of one value: what is expected may be computed, so its size is not known


class Session(Protocol):
    """A program that runs in the sandbox, and is called several times."""

    def call(self, function: str, args: Sequence[object], kwargs: Mapping[str, object] | None = None) -> Outcome: ...


class _Found(NamedTuple):
    result: SuiteResult
    doubt: str = ""  # why a right program might have failed too


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
        """Test a program. ``limits`` hold for all calls together. What fails on our side is tried once more.

        What says as much of a right program as of this one is not held against it: where the tests use its objects in
        a way that no program may answer, or run past their own limit, a reference tells whose doing it was.

        Raises:
            ValueError: the tests cannot be read.
        """
        limits = replace(limits, output_bytes=max(limits.output_bytes, _OUTPUT_BYTES))
        names = read_names(suite)
        try:
            found = self._attempt(sandbox, completed(code, suite), suite, names, limits, stop_at_first)
            if any(not failure.status.has_score for failure in found.result.failures):
                found = self._attempt(sandbox, completed(code, suite), suite, names, limits, stop_at_first)
        except WorkerLimitError as error:
            return self._past_limit(sandbox, suite, names, limits, str(error))
        if found.result.failures and found.doubt and suite.reference:
            return self._in_doubt(sandbox, suite, names, limits, found)
        return found.result

    def _attempt(
        self,
        sandbox: "Sandbox",
        program: Program,
        suite: AssertSuite,
        names: Names,
        limits: SandboxLimits,
        stop_at_first: bool,
    ) -> _Found:
        """Raises WorkerLimitError where the tests' own code ran past its limit."""
        request = {"setup": suite.setup, "tests": suite.tests, "stop": stop_at_first, **asdict(names)}
        program = answering(program)
        with self.lease() as worker:
            try:
                with sandbox.session(program.text, limits=limits) as session:
                    return _converse(worker, session, program, request)
            except WorkerDiedError as error:
                return _unscored(f"the process of the tests: {error}")

    def _in_doubt(
        self, sandbox: "Sandbox", suite: AssertSuite, names: Names, limits: SandboxLimits, found: _Found
    ) -> SuiteResult:
        """The failures stand where the reference, which has right objects of its own, passes."""
        with suppress(WorkerLimitError):
            right = self._attempt(sandbox, completed(suite.reference, suite), suite, names, limits, True)
            if not right.result.failures:
                return found.result
        return _unscored(f"the reference fails these tests too: {found.doubt}").result

    def _past_limit(
        self, sandbox: "Sandbox", suite: AssertSuite, names: Names, limits: SandboxLimits, error: str
    ) -> SuiteResult:
        """Whose doing it was: the program's, by what it returned, where the tests end in time with another.

        That is the reference or, where there is none, a program that returns nothing: it fails every test, but comes
        to each of them.
        """
        other = completed(suite.reference, suite) if suite.reference else _stub(names)
        with suppress(WorkerLimitError):
            right = self._attempt(sandbox, other, suite, names, limits, False).result
            if not right.failures or not suite.reference:
                failure = Failure(status=Status.TIMEOUT, reason=f"with what it returned, the tests' code {error}")
                return SuiteResult(num_passed=0, num_tests=right.num_tests, failures=(failure,))
        return _unscored(f"the tests' own code {error}").result


def _stub(names: Names) -> Program:
    return Program("".join(f"def {name}(*args, **kwargs): return None\n" for name in names.program))


def _converse(worker: Worker, session: Session, program: Program, request: Message) -> _Found:
    """Make the calls that the tests ask for, until they are done."""
    ended: Failure | None = None
    parts: list[str] = []
    reply = worker.ask(request)
    while "call" in reply or "part" in reply:
        if "part" in reply:
            parts.append(str(reply["part"]))
            reply = worker.ask({"more": True})
            continue
        outcome = session.call(BRIDGE, ["".join((*parts, str(reply["call"])))])
        parts.clear()
        answer = outcome.value if outcome.status is RunStatus.FINISHED else None
        if isinstance(answer, str):
            reply = worker.ask({"reply": answer})
        else:
            ended = failure_of(outcome, program) or Failure(status=Status.WRONG, reason="a reply that is none")
            reply = worker.ask({"ended": True})
    if reply["problem"]:
        return _unscored(str(reply["problem"]))
    failures = [Failure(status=Status.WRONG, reason=reason) for reason in reply["failures"]]
    if ended is not None:
        failures.append(ended)
    if not reply["num_calls"] and not failures:
        return _unscored("the tests never call the program")
    result = SuiteResult(num_passed=reply["num_passed"], num_tests=reply["num_tests"], failures=tuple(failures))
    return _Found(result, str(reply["doubt"]))


def _unscored(reason: str) -> _Found:
    failure = Failure(status=Status.HARNESS_ERROR, reason=reason)
    return _Found(SuiteResult(num_passed=0, num_tests=1, failures=(failure,)))
