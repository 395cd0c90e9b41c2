"""Run a program on its tests, one execution each, and compare on this side: what is expected stays here."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rewards.code_checker import Checker, Runner
from rewards.code_output import describe, difference
from rewards.code_program import Program, with_function
from rewards.code_suite import CallSuite, Failure, OutputSuite, OutputTest, SuiteResult
from rewards.code_value import same_value, shown
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.sandbox_values import encode
from rewards.verdict import Status

if TYPE_CHECKING:
    from rewards.sandbox import Sandbox

_ROOM, _LEAST_ROOM_BYTES = 4, 1 << 16
_MAX_TIMEOUTS = (
    4  # of one program: tests mostly grow, and one that loops on all of them is not to take its time on each
)
_MAX_FAILURES = 8  # kept of one program; a reason names the first
_SHOWN_STATUS = {
    RunStatus.RUNTIME_ERROR: "runtime error",
    RunStatus.TIME_LIMIT: "time limit",
    RunStatus.MEMORY_LIMIT: "memory limit",
    RunStatus.OUTPUT_LIMIT: "output limit",
    RunStatus.FORBIDDEN: "forbidden",
    RunStatus.SANDBOX_FAILURE: "sandbox failure",
}


def run_outputs(
    runner: Runner,
    program: Program,
    suite: OutputSuite,
    *,
    limits: SandboxLimits,
    checker: Checker | None,
    tolerance: float,
) -> Iterable[Failure | None]:
    """Per test, why it failed, or None. Lazy: a test is run when its result is asked for."""
    for number, test in enumerate(suite.tests, start=1):
        roomy = _with_room(limits, len(test.stdout.encode()))
        outcome = again(lambda: runner.run(program.text, stdin=test.stdin, limits=roomy))  # noqa: B023 - called at once
        failure = failure_of(outcome, program) or _compare(test, outcome.stdout, checker, tolerance)
        yield failure and numbered(failure, number)


def run_calls(
    sandbox: "Sandbox", code: str, suite: CallSuite, *, limits: SandboxLimits, tolerance: float
) -> Iterable[Failure | None]:
    """As ``run_outputs``, by calling a function."""
    for number, test in enumerate(suite.tests, start=1):
        program, name = with_function(code, test.function)
        args, kwargs = list(test.args), dict(test.kwargs)
        roomy = _with_room(limits, max(len(encode(right)) for right in test.returns))
        outcome = again(lambda: sandbox.call(program.text, name, args, kwargs, limits=roomy))  # noqa: B023 - as above
        failure = failure_of(outcome, program)
        if failure is None and not any(same_value(right, outcome.value, tolerance) for right in test.returns):
            reason = f"expected {shown(test.returns[0])}, got {shown(outcome.value)}"
            failure = Failure(status=Status.WRONG, reason=reason)
        yield failure and numbered(failure, number)


def tally(results: Iterable[Failure | None], num_tests: int, *, stop_at_first: bool) -> SuiteResult:
    """Count; with ``stop_at_first``, what comes after the first failure is not run, nor after the fourth timeout."""
    num_passed = num_timeouts = 0
    failures: list[Failure] = []
    for failure in results:
        if failure is None:
            num_passed += 1
        elif len(failures) < _MAX_FAILURES or not failure.status.has_score:
            failures.append(failure)
            num_timeouts += failure.status is Status.TIMEOUT
        if (failures and stop_at_first) or num_timeouts == _MAX_TIMEOUTS:
            break
    return SuiteResult(num_passed=num_passed, num_tests=num_tests, failures=tuple(failures))


def again(run: Callable[[], Outcome]) -> Outcome:
    """A sandbox that failed is asked once more: the machine may have ended it, not the program."""
    outcome = run()
    return run() if outcome.status is RunStatus.SANDBOX_FAILURE else outcome


def _with_room(limits: SandboxLimits, num_bytes: int) -> SandboxLimits:
    """With as much output as what is expected takes, in whatever way it may be written: as tuples, say."""
    return replace(limits, output_bytes=max(limits.output_bytes, _ROOM * num_bytes + _LEAST_ROOM_BYTES))


def failure_of(outcome: Outcome, program: Program) -> Failure | None:
    """Why the run ended badly; None where it finished."""
    if outcome.status is RunStatus.FINISHED:
        return None
    line = program.line(outcome.line)
    reason = f"{_SHOWN_STATUS[outcome.status]}{f' in line {line}' if line else ''}"
    reason += f": {outcome.error}" if outcome.error else ""
    status = {RunStatus.TIME_LIMIT: Status.TIMEOUT, RunStatus.SANDBOX_FAILURE: Status.HARNESS_ERROR}
    return Failure(status=status.get(outcome.status, Status.WRONG), reason=reason)


def numbered(failure: Failure, number: int) -> Failure:
    return Failure(status=failure.status, reason=f"test {number}: {failure.reason}")


def _compare(test: OutputTest, given: str, checker: Checker | None, tolerance: float) -> Failure | None:
    found = difference(test.stdout, given, tolerance)
    if found is None:
        return None
    if checker is not None:
        return checker.failure(test, given)
    return Failure(status=Status.WRONG, reason=describe(found))
