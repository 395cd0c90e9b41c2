"""Model-written code against tests, in a sandbox: what is expected never enters it.

The tests stand in the question's columns or its reference, in the forms that the hub's datasets have
(``rewards.code_formats``). Programs are given input and their output is compared; functions are called and what they
return is compared; test code that asserts runs on our side and calls in.
"""

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from rewards.arguments import check_choice, check_number
from rewards.base import PooledVerifier
from rewards.code_answer import EXTRACTORS, MAX_CHARACTERS
from rewards.code_asserts import AssertPool
from rewards.code_checker import Checker, Runner
from rewards.code_formats import AUTO, REFERENCE, parse_tests, read_suite
from rewards.code_names import read_names
from rewards.code_program import Program, script
from rewards.code_runs import run_calls, run_outputs, tally
from rewards.code_suite import AssertSuite, CallSuite, OutputSuite, Suite, SuiteResult
from rewards.sandbox_program import SandboxLimits, SandboxUnavailableError
from rewards.verdict import Question, Status, Verdict, failed, unparsed

if TYPE_CHECKING:
    from rewards.sandbox import Sandbox

SCORES = ("all", "share")
_NUM_CACHED = 32  # suites: a group's answers share theirs, and reading one may take a second
_ANY_ROW = {"entry_point": "f", "function": "f", "metadata": {"func_name": "f"}}  # where only the shape is asked for


class CodeTestsVerifier(PooledVerifier):
    """1 where the program passes its tests, else 0; with ``score: share``, the share of tests that it passes.

    What the program does wrong is wrong, each in its own words: a test failed, an error raised, a limit of memory or
    output passed, a forbidden call; past the limit of time it is a timeout. A sandbox that fails, here or elsewhere,
    says nothing about the program: no score.

    >>> verifier = CodeTestsVerifier(extract="whole")
    >>> tests = '{"function": "double", "tests": [{"call": [2], "returns": 4}]}'
    >>> verifier.verify("def double(x): return x ** 3", Question(text="", reference=tests)).reason
    'test 1: expected 4, got 8'
    >>> verifier.close()
    """

    name = "code_tests"

    def __init__(
        self,
        *,
        extract: str = "last_block",
        score: str = "all",
        stop_at_first_failure: bool | None = None,
        float_tolerance: float = 1e-6,
        tests_column: str = AUTO,
        cpu_s: float = 5.0,
        memory_mb: int = 512,
        num_workers: int = 1,
        remote: str = "",
        language: str = "python",
    ) -> None:
        """
        Args:
            extract: ``last_block`` of code, ``answer_tags``, or the ``whole`` text.
            score: ``all`` tests or none, or the ``share`` of them.
            stop_at_first_failure: absent: where all must pass, which then cannot change the score.
            float_tolerance: relative, where a decimal is expected; absolute below 1, and from a thousand on no wider
                than there; 0: exact.
            tests_column: where the tests are: ``auto`` (columns of a known shape, else the reference),
                ``reference``, or a column's name.
            cpu_s: CPU seconds of one test; of all of them together where test code asserts.
            memory_mb: MiB that the program may take beyond a bare interpreter.
            num_workers: programs at a time.
            remote: address of a SandboxFusion server that runs the programs instead, on tests of input and output;
                its token is taken from the environment (``GRPO_SANDBOX_TOKEN``).
            language: of the programs; other than python only with ``remote``.

        Raises:
            ValueError: an argument is out of range, or this machine has no way to confine a program.
        """
        check_choice("extract", extract, EXTRACTORS)
        check_choice("score", score, SCORES)
        if stop_at_first_failure is not None and not isinstance(stop_at_first_failure, bool):
            raise ValueError(f"stop_at_first_failure = {stop_at_first_failure!r}: true, false or absent is needed")
        check_number("float_tolerance", float_tolerance, 0.0, 1.0)
        check_number("cpu_s", cpu_s, 0.1, 600.0)
        if isinstance(memory_mb, bool) or not isinstance(memory_mb, int) or memory_mb < 32:
            raise ValueError(f"memory_mb = {memory_mb!r}: a whole number of MiB, at least 32, is needed")
        if not tests_column or not isinstance(tests_column, str):
            raise ValueError(f"tests_column = {tests_column!r}: {AUTO}, {REFERENCE} or a column's name is needed")
        if language != "python" and not remote:
            raise ValueError(f"language = {language!r}: this machine runs python only; others need remote = 'http://…'")
        self.extract = extract
        self.score = score
        self.language = language
        self._find = EXTRACTORS[extract]
        self._stops = score == "all" if stop_at_first_failure is None else stop_at_first_failure
        self._tolerance = float(float_tolerance)
        self._column = tests_column
        self._limits = SandboxLimits(cpu_s=float(cpu_s), wall_s=10.0 + 3.0 * cpu_s, memory_mb=memory_mb)
        self._suites = _SuiteCache(tests_column)
        self.placement = "service" if remote else "pool"
        self.pool: AssertPool = AssertPool(num_workers)
        self._sandbox: Sandbox | None = None
        self._runner, self._checkers = self._make_runners(remote, language, num_workers)

    def check_reference(self, reference: str) -> str | None:
        """Why a reference holds no tests. Where they may stand in columns, a text that is not JSON will do."""
        if self._column not in (AUTO, REFERENCE):
            return None
        try:
            suite = parse_tests(reference, _ANY_ROW)
            if isinstance(suite, AssertSuite):
                read_names(suite)
        except ValueError as error:
            return str(error) if self._column == REFERENCE or reference.lstrip()[:1] in ("{", "[") else None
        return None

    def close(self) -> None:
        """End and reap every process; idempotent."""
        super().close()
        if self._sandbox is not None:
            self._sandbox.close()

    def _make_runners(self, remote: str, language: str, num_workers: int) -> tuple[Runner, Runner]:
        """Who runs the programs, and who runs the checkers, which are Python in any case."""
        if remote:
            from rewards.remote import TOKEN_VARIABLE, RemoteSandbox  # slow to import, and seldom needed

            token = os.environ.get(TOKEN_VARIABLE) or None
            programs = RemoteSandbox(remote, language=language, token=token)
            return programs, programs.with_language("python")
        from rewards.sandbox import Sandbox  # as is this

        try:
            self._sandbox = Sandbox(num_workers=num_workers)
        except SandboxUnavailableError as error:
            raise ValueError(f"verifier {self.name!r} cannot confine a program here: {error}") from error
        return self._sandbox, self._sandbox

    def _judge(self, completion: str, question: Question) -> Verdict:
        try:
            suite = self._suites.suite(question)
        except ValueError as error:
            return failed(str(error))
        code = self._find(completion, self.language)
        if code is None:
            return unparsed(f"no code by {self.extract!r}")
        if len(code) > MAX_CHARACTERS:
            return unparsed(f"longer than {MAX_CHARACTERS} characters")
        if not _is_text(code):
            return unparsed("characters that no program can hold")
        try:
            result = self._run(code, suite)
        except ValueError as error:
            return failed(str(error))
        return self._verdict(code, result)

    def _run(self, code: str, suite: Suite) -> SuiteResult:
        """Raises ValueError where the tests are of a kind that cannot be run."""
        if isinstance(suite, OutputSuite):
            checker = Checker(suite.checker, self._checkers, self._limits) if suite.checker else None
            program = script(code) if self.language == "python" else Program(code)
            results = run_outputs(
                self._runner, program, suite, limits=self._limits, checker=checker, tolerance=self._tolerance
            )
            return tally(results, len(suite.tests), stop_at_first=self._stops)
        if self._sandbox is None:
            raise ValueError("a remote sandbox runs tests of input and output only; these call functions")
        if isinstance(suite, CallSuite):
            results = run_calls(self._sandbox, code, suite, limits=self._limits, tolerance=self._tolerance)
            return tally(results, len(suite.tests), stop_at_first=self._stops)
        return self.pool.run(self._sandbox, code, suite, limits=self._limits, stop_at_first=self._stops)

    def _verdict(self, code: str, result: SuiteResult) -> Verdict:
        unscored = [failure for failure in result.failures if not failure.status.has_score]
        scored = [failure for failure in result.failures if failure.status.has_score]
        if unscored and (self.score == "share" or not scored):
            return Verdict(score=None, status=unscored[0].status, reason=unscored[0].reason)
        if not scored and result.num_passed >= result.num_tests:
            return Verdict(score=1.0, status=Status.CORRECT, extracted=code)
        reason = scored[0].reason if scored else "it did not come to all tests"
        if not self._stops and result.num_tests > 1:
            reason = f"{result.num_passed} of {result.num_tests} tests passed; {reason}"
        share = result.num_passed / result.num_tests if self.score == "share" else 0.0
        status = scored[0].status if scored and not share else Status.WRONG
        return Verdict(score=share, status=status, extracted=code, reason=reason)


class _SuiteCache:
    """The suites of the last questions, by the columns that they were read from. Callable from many threads."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._read: OrderedDict[tuple[int, str, str], tuple[Question, Suite]] = OrderedDict()

    def suite(self, question: Question) -> Suite:
        """Raises ValueError where it has none in a known shape."""
        key = (id(question.columns), question.reference, question.text)
        with self._lock:
            kept = self._read.get(key)  # it holds on to its question, so that the id stays the columns' own
        if kept is not None:
            return kept[1]
        suite = read_suite(question, self._where)
        if isinstance(suite, AssertSuite):
            read_names(suite)
        with self._lock:
            self._read[key] = (question, suite)
            if len(self._read) > _NUM_CACHED:
                self._read.popitem(last=False)
        return suite


def _is_text(code: str) -> bool:
    """Half a surrogate pair and NUL have no place in a source file."""
    try:
        code.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in code
