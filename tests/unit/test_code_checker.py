"""Checkers: only a word of theirs accepts an output, and never one that they quote from it."""

from collections.abc import Iterator

import pytest

from rewards.code_checker import Checker
from rewards.code_suite import OutputTest
from rewards.sandbox import Sandbox
from rewards.sandbox_program import SandboxLimits
from rewards.verdict import Status
from tests.sandboxed import skip_without_sandbox

skip_without_sandbox()

READ = "import sys\nexpected = open(sys.argv[2]).read()\ngiven = open(sys.argv[3]).read()\n"
PER_WORD = READ + "for word in given.split():\n    print(int(word == expected.strip()))"
QUOTING = READ + "g = given.strip()\nprint('1' if g == '3' else g + ' is not expected')"
WORDS = READ + "print('OK' if given.split() == expected.split() else 'WA')"
SENTENCE = READ + "print('ok, as many as expected' if given.split() == expected.split() else 'no good')"
EXITING = READ + "sys.exit(0 if given.split() == expected.split() else 1)"
ASSERTING = READ + "assert given.split() == expected.split()"
SILENT = READ + "if given.split() != expected.split():\n    print('wrong')"
REFUSING = "print(0)"
CONFUSED = "print('maybe')"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("checker", "given", "status"),
    [
        (PER_WORD, "3\n", None),
        (PER_WORD, "4\n", Status.WRONG),
        (PER_WORD, "", Status.WRONG),
        (PER_WORD, "  \n", Status.WRONG),
        (QUOTING, "3", None),
        (QUOTING, "ok", Status.WRONG),
        (QUOTING, "1", Status.WRONG),
        (QUOTING, "ok\n", Status.WRONG),
        (WORDS, "3", None),
        (WORDS, "4", Status.WRONG),
        (SENTENCE, "3", Status.HARNESS_ERROR),
        (EXITING, "3", None),
        (EXITING, "4", Status.WRONG),
        (ASSERTING, "3", None),
        (ASSERTING, "4", Status.WRONG),
        (SILENT, "3", None),
        (SILENT, "4", Status.WRONG),
        (SILENT, "", Status.WRONG),
        (REFUSING, "3", Status.WRONG),
        (CONFUSED, "3", Status.HARNESS_ERROR),
    ],
)
def test_what_a_checker_says(sandbox: Sandbox, checker: str, given: str, status: Status | None) -> None:
    failure = Checker(checker, sandbox, SandboxLimits(cpu_s=2.0)).failure(OutputTest(stdin="", stdout="3\n"), given)
    assert (failure.status if failure else None) is status, failure
