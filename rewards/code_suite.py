"""What a program is tested with: three kinds of suite, and what running one found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rewards.verdict import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTest:
    """One run of the whole program: what it reads, what it must print."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTest:
    """One call: arguments, and what may come back. All values are JSON's, so a tuple stands for a list and back."""

    function: str
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    returns: tuple[object, ...]  # any one of them is right


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSuite:
    """``checker``: a Python program that decides where several outputs are right; empty: outputs are compared."""

    tests: tuple[OutputTest, ...]
    checker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSuite:
    """Calls of functions, or of methods of a class ``Solution``."""

    tests: tuple[CallTest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertSuite:
    """Test code of the dataset's, which calls the program and asserts.

    Attributes:
        tests: pieces of code, each a test of its own; run in order in one namespace, after ``setup``.
        setup: code of the dataset's that the tests need.
        prompt: the code that the program goes on from, where it is a completion of it.
        entry_point: the function that the program must define; empty where only the tests say.
        reference: a right program, which says what else a program of that kind defines; empty where there is none.
    """

    tests: tuple[str, ...]
    setup: str = ""
    prompt: str = ""
    entry_point: str = ""
    reference: str = ""


Suite = OutputSuite | CallSuite | AssertSuite


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one test did not pass. A ``status`` without a score says that the test could not be made."""

    status: Status
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """``failures`` are those seen: after a stop at the first, tests that were not run are neither passed nor failed."""

    num_passed: int
    num_tests: int
    failures: tuple[Failure, ...] = ()
