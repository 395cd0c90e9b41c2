"""Checkers: programs of a dataset that decide whether an output is right where several are.

A checker is given three files, ``input.txt correct_output.txt solution_output.txt``, as those of Codeforces' problems
are. It accepts by printing a number from 1, or a word such as ``ok``, and nothing else; or by printing nothing and
ending well, where it does so on the expected output too.
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
_REFUSES = {"wa", "wrong", "wrong_answer", "rejected", "false", "no", "incorrect"}


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

        Silence, a crash and words that are not a checker's say nothing by themselves: what it makes of the expected
        output tells what they mean.
        """
        outcome = self._run(test, given)
        verdict = _verdict(outcome)
        if verdict is None:
            right = self._run(test, test.stdout)
            if _is_silent(outcome) and _is_silent(right):
                return None
            if _verdict(right) is not True and not _is_silent(right):
                shown = outcome.error or f"it says {_shown(outcome)}"
                return Failure(status=Status.HARNESS_ERROR, reason=f"the checker failed: {shown}")
        if verdict:
            return None
        if outcome.status is not RunStatus.FINISHED:
            return Failure(status=Status.WRONG, reason=f"the checker could not read the output: {outcome.error}")
        return Failure(status=Status.WRONG, reason=f"the checker refused the output: {_shown(outcome)}")

    def _run(self, test: OutputTest, given: str) -> Outcome:
        files = {"input": test.stdin, "correct_output": test.stdout, "solution_output": given}
        return self._runner.run(_PROGRAM, stdin=json.dumps({"checker": self._code, **files}), limits=self._limits)


def _verdict(outcome: Outcome) -> bool | None:
    """What the checker says in one word, or by its exit status; None where it says nothing, or not in one word.

    A sentence may quote the output that it refuses.
    """
    said = outcome.stdout.lower().split()
    if outcome.status is RunStatus.RUNTIME_ERROR and outcome.error.startswith("exit status"):
        return False
    if outcome.status is not RunStatus.FINISHED or len(said) != 1:
        return None
    if _NUMBER.fullmatch(said[0]):
        return float(said[0]) >= 1.0
    word = said[0].strip(".:,!")
    return word in _ACCEPTS if word in _ACCEPTS | _REFUSES else None


def _is_silent(outcome: Outcome) -> bool:
    return outcome.status is RunStatus.FINISHED and not outcome.stdout.strip()


def _shown(outcome: Outcome) -> str:
    return repr(outcome.stdout.strip()[:60])
