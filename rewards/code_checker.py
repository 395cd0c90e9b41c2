"""Checkers: programs of a dataset that decide whether an output is right where several are.

A checker is given three files, ``input.txt correct_output.txt solution_output.txt``, as those of Codeforces' problems
are. It accepts by printing a number from 1 and nothing else, or a word such as ``ok`` first, or by printing nothing
and ending well.
It runs in a sandbox of its own: the output that it reads was written by a model.
"""

import json
import re
from typing import Protocol

from rewards.code_suite import Failure, OutputTest
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.verdict import Status

_PROGRAM = """
import json, sys
given = json.load(sys.stdin)
for name in ("input", "correct_output", "solution_output"):
    with open(name + ".txt", "w", encoding="utf-8") as file:
        file.write(given[name])
sys.argv = ["checker.py", "input.txt", "correct_output.txt", "solution_output.txt"]
exec(compile(given["checker"], "checker.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
"""
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_ACCEPTS = {"ok", "accepted", "ac", "true", "yes", "correct"}


class Runner(Protocol):
    """Runs a whole program: the sandbox of this machine, or one elsewhere."""

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits = ...) -> Outcome: ...


class Checker:
    """One problem's checker, asked about one output at a time."""

    def __init__(self, code: str, runner: Runner, limits: SandboxLimits) -> None:
        self._code = code
        self._runner = runner
        self._limits = limits

    def failure(self, test: OutputTest, given: str) -> Failure | None:
        """Why the output is wrong; None where it is right.

        A checker that fails on an output, but accepts the expected one, has met something that no right output holds.
        """
        outcome = self._run(test, given)
        verdict = _verdict(outcome)
        if verdict is None:
            if _verdict(self._run(test, test.stdout)) is True:
                return Failure(status=Status.WRONG, reason=f"the checker could not read the output: {outcome.error}")
            return Failure(status=Status.HARNESS_ERROR, reason=f"the checker failed: {outcome.error}")
        if verdict:
            return None
        return Failure(status=Status.WRONG, reason=f"the checker refused the output {outcome.stdout.strip()[:60]!r}")

    def _run(self, test: OutputTest, given: str) -> Outcome:
        files = {"input": test.stdin, "correct_output": test.stdout, "solution_output": given}
        return self._runner.run(_PROGRAM, stdin=json.dumps({"checker": self._code, **files}), limits=self._limits)


def _verdict(outcome: Outcome) -> bool | None:
    """What the checker says; None where it failed to say anything."""
    said = outcome.stdout.lower().split() or ["ok"]
    if outcome.status is RunStatus.FINISHED:
        if _NUMBER.fullmatch(said[0]):  # alone: in a sentence it may be quoted from the output
            return len(said) == 1 and float(said[0]) >= 1.0
        return said[0].strip(".:,!") in _ACCEPTS
    if outcome.status is RunStatus.RUNTIME_ERROR and "SystemExit" in outcome.error:
        return False
    return None
