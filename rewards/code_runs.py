"""Run a program on its tests, one execution each, and compare on this side: what is expected stays here."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rewards.code_checker import Checker, Runner
from rewards.code_output import describe, difference
from rewards.code_program import Program, with_function
from rewards.code_suite import CallSuite, Failure, OutputSuite, OutputTest, SuiteResult
from rewards.code_value import same_value, shown
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.verdict import Status

if TYPE_CHECKING:
    from rewards.sandbox import Sandbox

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
    runner: Runner, code: str, suite: OutputSuite, *, limits: SandboxLimits, checker: Checker | None, tolerance: float
) -> Iterable[Failure | None]:
    """Per test, why it failed, or None. Lazy: a test is run when its result is asked for."""
    for number, test in enumerate(suite.tests, start=1):
        outcome = again(lambda test=test: runner.run(code, stdin=test.stdin, limits=limits))  # type: ignore[misc]
        failure = failure_of(outcome, Program(code)) or _compare(test, outcome.stdout, checker, tolerance)
        yield failure and numbered(failure, number)


def run_calls(
    sandbox: "Sandbox", code: str, suite: CallSuite, *, limits: SandboxLimits, tolerance: float
) -> Iterable[Failure | None]:
    """As ``run_outputs``, by calling a function."""
    for number, test in enumerate(suite.tests, start=1):
        program, name = with_function(code, test.function)
        args, kwargs = list(test.args), dict(test.kwargs)
        outcome = again(
            lambda: sandbox.call(program.text, name, args, kwargs, limits=limits)  # noqa: B023 - called at once
        )
        failure = failure_of(outcome, program)
        if failure is None and not any(same_value(right, outcome.value, tolerance) for right in test.returns):
            reason = f"expected {shown(test.returns[0])}, got {shown(outcome.value)}"
            failure = Failure(status=Status.WRONG, reason=reason)
        yield failure and numbered(failure, number)


def tally(results: Iterable[Failure | None], num_tests: int, *, stop_at_first: bool) -> SuiteResult:
    """Count; with ``stop_at_first``, what comes after the first failure is not run."""
    num_passed = 0
    failures: list[Failure] = []
    for failure in results:
        if failure is None:
            num_passed += 1
        elif len(failures) < _MAX_FAILURES or not failure.status.has_score:
            failures.append(failure)
        if failures and stop_at_first:
            break
    return SuiteResult(num_passed=num_passed, num_tests=num_tests, failures=tuple(failures))


def again(run: Callable[[], Outcome]) -> Outcome:
    """A sandbox that failed is asked once more: the machine may have ended it, not the program."""
    outcome = run()
    return run() if outcome.status is RunStatus.SANDBOX_FAILURE else outcome


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
