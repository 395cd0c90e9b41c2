"""Programs against tests of every kind, in the real sandbox: right ones pass, no other does, whatever it tries."""

import gzip
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from rewards import Question, Status, Verdict
from rewards.code_asserts import AssertPool
from rewards.code_names import Names, read_names
from rewards.code_suite import AssertSuite
from rewards.code_tests import CodeTestsVerifier
from rewards.hostile import HOSTILE
from tests.sandboxed import skip_without_sandbox, whole_answers

HUMANEVAL = Path(__file__).parents[3] / "shared" / "data" / "humaneval.jsonl.gz"
SUM = {"tests": [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 6\n", "stdout": "11\n"}]}
ADD = {"function": "add", "tests": [{"call": [1, 2], "returns": 3}, {"call": [2, 2], "returns": 4}]}
ASSERTS = {"tests": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]}
EACH_KIND = {
    "output": (SUM, "print(sum(map(int, input().split())))"),
    "calls": (ADD, "def add(a, b):\n    return a + b"),
    "asserts": (ASSERTS, "def add(a, b):\n    return a + b"),
}

skip_without_sandbox()


verifier = whole_answers(cpu_s=1.0)


share = whole_answers(score="share", cpu_s=1.0)


def judge(verifier: CodeTestsVerifier, code: str, reference: Any, **columns: Any) -> Verdict:
    text = reference if isinstance(reference, str) else json.dumps(reference)
    return verifier.verify(code, Question(text="", reference=text, columns=columns))


@pytest.mark.parametrize("kind", EACH_KIND)
def test_a_right_program_passes(verifier: CodeTestsVerifier, kind: str) -> None:
    tests, code = EACH_KIND[kind]
    verdict = judge(verifier, code, tests)
    assert (verdict.score, verdict.status, verdict.extracted) == (1.0, Status.CORRECT, code)
    assert verdict.seconds > 0


@pytest.mark.parametrize(
    ("kind", "code", "status", "reason"),
    [
        ("output", "print(3)", Status.WRONG, "test 2: line 1: expected '11', got '3'"),
        (
            "output",
            "a, b = map(int, input().split())\nprint(a + c)",
            Status.WRONG,
            "runtime error in line 2.*NameError",
        ),
        ("output", "while True: pass", Status.TIMEOUT, "test 1: time limit"),
        ("output", "print('x' * (1 << 22))", Status.WRONG, "output limit|line 1"),
        ("output", "import os\nos.fork()", Status.WRONG, "test 1: "),
        ("output", "print(3); import os; os._exit(1)", Status.WRONG, "runtime error"),
        ("output", "print(", Status.WRONG, "SyntaxError"),
        ("calls", "def add(a, b):\n    return 3", Status.WRONG, "test 2: expected 4, got 3"),
        ("calls", "def add(a, b):\n    return a +\n", Status.WRONG, "SyntaxError"),
        ("calls", "def add(a, b):\n    raise KeyError(a)", Status.WRONG, "runtime error in line 2.*KeyError"),
        ("calls", "def sub(a, b):\n    return 3", Status.WRONG, "runtime error"),
        ("calls", "def add(a, b):\n    return 'x' * (1 << 22)", Status.WRONG, "output limit"),
        ("calls", "def add(a, b):\n    return add", Status.WRONG, "function"),
        ("calls", "import sys\nsys.exit(0)", Status.WRONG, "test 1: "),
        ("asserts", "def add(a, b):\n    return 3", Status.WRONG, r"assert add\(2, 2\) == 4: add returned 3"),
        ("asserts", "def add(a, b):\n    raise KeyError(a)", Status.WRONG, "add raised KeyError"),
        ("asserts", "def add(a, b):\n    while True: pass", Status.TIMEOUT, "time limit"),
        ("asserts", "import os\nos._exit(0)", Status.WRONG, ""),
        ("asserts", "def add(a, b):\n    return '" + "x" * 300 + "'", Status.WRONG, "…"),
        ("asserts", "", Status.UNPARSED, "no code"),
        ("asserts", "x = '\0'", Status.UNPARSED, "characters"),
        ("asserts", "x = 1\n" * 100_000, Status.UNPARSED, "longer than"),
    ],
)
def test_what_is_wrong_is_told(verifier: CodeTestsVerifier, kind: str, code: str, status: Status, reason: str) -> None:
    verdict = judge(verifier, code, EACH_KIND[kind][0])
    assert (verdict.score, verdict.status) == (0.0, status), verdict.reason
    assert re.search(reason, verdict.reason), verdict.reason


FORGERIES = {
    "an object equal to all": "class A:\n    def __eq__(self, other): return True\n"
    "    __ne__ = lambda self, other: False\n    def __hash__(self): return 0\n"
    "def add(a, b): return A()",
    "an int equal to all": "class A(int):\n    def __eq__(self, other): return True\n"
    "    def __ne__(self, other): return False\n    __hash__ = int.__hash__\ndef add(a, b): return A(7)",
    "a text equal to all": "class A(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
    "def add(a, b): return A('3')",
    "exit at import": "import os\nprint('passed')\nos._exit(0)",
    "exit in the call": "import sys\ndef add(a, b): sys.exit(0)",
    "a patched builtin": "import builtins\nbuiltins.sum = builtins.abs = lambda *a: 3\n"
    "builtins.AssertionError = KeyError\n"
    "def add(a, b): return 7",
    "a frame walk": "import sys\ndef add(a, b):\n    frame, seen = sys._getframe(), []\n    while frame:\n"
    "        seen += [v for v in [*frame.f_locals.values(), *frame.f_globals.values()] if type(v) is int]\n"
    "        frame = frame.f_back\n    return [v for v in seen if v in (3, 4)][0]",
    "a walk of the heap": "import gc\ndef add(a, b):\n    for o in gc.get_objects():\n"
    "        if isinstance(o, dict) and 'returns' in o: return o['returns']\n    return None",
    "words of success": "def add(a, b):\n    print('{\"value\": 3}\\npassed')\n    return 'passed'",
    "writing to every descriptor": "import os\ndef add(a, b):\n    for fd in range(1, 64):\n"
    "        try: os.write(fd, b'3')\n"
    "        except OSError: pass\n    return None",
    "an assertion of its own": "def add(a, b): raise AssertionError",
    "true in place of one": "def add(a, b): return True",
    "a patched assert": "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef add(a, b): return None",
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("kind", ["calls", "asserts"])
def test_no_forgery_passes_and_the_next_program_is_judged(verifier: CodeTestsVerifier, kind: str, name: str) -> None:
    tests, right = EACH_KIND[kind]
    verdict = judge(verifier, FORGERIES[name], tests)
    assert verdict.score == 0.0, verdict
    assert judge(verifier, right, tests).score == 1.0


def test_a_program_cannot_replace_what_the_tests_compare_with(verifier: CodeTestsVerifier) -> None:
    tests = {
        "tests": ["assert abs(area(2) - 4) < 1e-6", "assert math.isclose(area(3), 9)", "assert len(str(area(1))) == 1"]
    }
    cheat = (
        "class math:\n    isclose = lambda *a: True\ndef abs(x): return 0\ndef len(x): return 1\ndef area(x): return 7"
    )
    assert judge(verifier, cheat, tests).score == 0.0
    assert judge(verifier, "def area(x): return x * x", tests).score == 1.0


def test_a_function_named_as_a_builtin_is_the_programs_where_the_reference_says_so(verifier: CodeTestsVerifier) -> None:
    columns = {"test_list": ["assert sum(10, 15) == 6", "assert sum(100, 150) == 93"]}
    right = (
        "def sum(a, b):\n    total = 0\n    for x in range(1, min(a, b)):\n"
        "        total += x * (a % x == b % x == 0)\n    return total"
    )
    assert judge(verifier, right, right, **columns).score == 1.0
    assert judge(verifier, "def sum(a, b): return 6", right, **columns).score == 0.0


def test_names_of_the_program_are_what_the_tests_use_and_nothing_defines() -> None:
    setup = "import copy\ndef helper(x):\n    return deep(x)\nn = 3"
    suite = AssertSuite(tests=("assert [f(copy.copy(y), k=n) for y in range(n)] == helper(g)",), setup=setup)
    assert read_names(suite) == Names(program=("deep", "f", "g"))


def test_values_of_every_builtin_type_cross(verifier: CodeTestsVerifier) -> None:
    tests = [
        "assert f({1: (2, 3)}) == {1: (2, 3)} and type(f((1,))) is tuple",
        "assert f({1, 2}) == {1, 2} and f(b'x') == b'x' and f(1j) == 1j and f(None) is None",
        "assert math.isinf(f(float('inf'))) and f(10 ** 3000) == 10 ** 3000",
        "assert f([[]] * 3) == [[], [], []] and f('\\ud83d\\ude00') == '😀'",
    ]
    assert judge(verifier, "def f(x): return x", {"tests": tests}).reason == ""


def test_what_the_program_raises_reaches_a_test_that_expects_it(verifier: CodeTestsVerifier) -> None:
    test = "try:\n    f(-1)\nexcept ValueError as error:\n    assert 'negative' in str(error)\nelse:\n    assert False"
    assert judge(verifier, "def f(x): raise ValueError('negative')", {"tests": [test]}).score == 1.0
    assert judge(verifier, "def f(x): raise TypeError('negative')", {"tests": [test]}).score == 0.0
    assert judge(verifier, "def f(x): return x", {"tests": [test]}).score == 0.0


@pytest.mark.parametrize(
    ("kind", "code", "score"),
    [
        ("output", "print(3)", 0.5),
        ("calls", "def add(a, b): return 4", 0.5),
        ("asserts", "def add(a, b): return 3", 0.5),
        ("asserts", "def add(a, b): raise KeyError", 0.0),
        ("output", "while True: pass", 0.0),
    ],
)
def test_the_share_of_tests_that_pass(share: CodeTestsVerifier, kind: str, code: str, score: float) -> None:
    verdict = judge(share, code, EACH_KIND[kind][0])
    assert verdict.score == score
    assert verdict.status in (Status.WRONG, Status.TIMEOUT)
    assert f"{round(2 * score)} of 2 tests passed" in verdict.reason


def test_assertions_that_ask_nothing_of_the_program_earn_nothing(share: CodeTestsVerifier) -> None:
    asked = "    assert candidate(1) == 1\n    assert candidate(2) == 2\n"
    test = f"def check(candidate):\n    assert True\n    assert 1 < 2\n{asked}"
    columns = {"entry_point": "f", "test": test, "prompt": "def f(x):\n"}
    assert judge(share, "    return 1", "", **columns).score == 0.5
    assert judge(share, "    return 7", "", **columns).score == 0.0
    assert judge(share, "    return x", "", **columns).score == 1.0


@pytest.mark.parametrize(
    ("reference", "columns", "reason"),
    [
        ('{"cases": []}', {}, "cases"),
        ("", {"test": "def check(c):\n    assert True", "entry_point": "f"}, "never call"),
        ("", {"test": "import no_such_module\ndef check(c):\n    assert c(1)", "entry_point": "f"}, "no_such_module"),
        ("", {"test_list": ["assert f(1"]}, "no Python"),
        ("", {"test_list": ["assert f(lambda: 1) == 1"]}, "does not cross"),
        ("", {"test_list": ["while True: pass\nassert f(1)"]}, "CPU time"),
    ],
)
def test_tests_that_cannot_be_made_say_nothing_of_the_program(reference: str, columns: Any, reason: str) -> None:
    verifier = CodeTestsVerifier(extract="whole")
    verifier.pool.close()
    verifier.pool = AssertPool(cpu_s=0.5)
    verdict = judge(verifier, "def f(x): return 1", reference, **columns)
    verifier.close()
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert reason in verdict.reason


def test_a_value_that_keeps_the_tests_busy_is_the_programs_doing() -> None:
    verifier = CodeTestsVerifier(extract="whole")
    verifier.pool.close()
    verifier.pool = AssertPool(cpu_s=0.5)
    right = "def f(x): return x"
    columns = {"test_list": ["assert sum(1 for _ in range(f(3))) == 3"]}
    verdict = judge(verifier, "def f(x): return 10 ** 15", right, **columns)
    assert (verdict.score, verdict.status) == (0.0, Status.TIMEOUT)
    assert judge(verifier, right, right, **columns).score == 1.0
    verifier.close()


CHECKER = """
import sys
n = int(open(sys.argv[1]).read())
expected = open(sys.argv[2]).read().split()
given = list(map(int, open(sys.argv[3]).read().split()))
print(1 if sum(given) == n and len(given) == len(expected) else 0)
"""


@pytest.mark.parametrize(
    ("code", "score"),
    [
        ("n = int(input()); print(1, n - 1)", 1.0),
        ("n = int(input()); print(2, n - 2)", 1.0),
        ("print(1, 1)", 0.0),
        ("print('one')", 0.0),
        ("print('1')", 0.0),
        ("print('0 0\\n1')", 0.0),
        ("import sys; sys.exit()", 0.0),
    ],
)
def test_a_checker_decides_where_several_outputs_are_right(
    verifier: CodeTestsVerifier, code: str, score: float
) -> None:
    tests = [{"input": "5\n", "output": "5 0\n"}, {"input": "9\n", "output": "4 5\n"}]
    assert judge(verifier, code, "", official_tests=tests, generated_checker=CHECKER).score == score


def test_a_checker_that_fails_on_the_expected_output_too_says_nothing(verifier: CodeTestsVerifier) -> None:
    tests = [{"input": "5\n", "output": "5 0\n"}]
    verdict = judge(verifier, "print(1, 4)", "", official_tests=tests, generated_checker="raise KeyError")
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)


def test_livecodebench_solution_classes_are_called(verifier: CodeTestsVerifier) -> None:
    columns = {
        "public_test_cases": json.dumps([{"input": "[1, 2]\n3", "output": "[6]", "testtype": "functional"}]),
        "metadata": '{"func_name": "total"}',
    }
    code = "class Solution:\n    def total(self, xs: List[int], y: int) -> Tuple[int]:\n        return (sum(xs) + y,)"
    assert judge(verifier, code, "", **columns).score == 1.0
    assert judge(verifier, code.replace("+ y", "- y"), "", **columns).reason == "test 1: expected [6], got (0,)"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_raises_or_passes(verifier: CodeTestsVerifier, text: str) -> None:
    assert judge(verifier, text, ADD).score == 0.0


def test_many_threads_get_their_own_verdicts() -> None:
    verifier = CodeTestsVerifier(extract="whole", num_workers=2)
    scores: dict[int, float | None] = {}

    def ask(number: int) -> None:
        code = f"def add(a, b):\n    return a + b + {number % 2}"
        scores[number] = judge(verifier, code, ASSERTS if number % 3 else ADD).score

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verifier.pool.num_workers == 2
    verifier.close()
    verifier.close()
    assert scores == {number: float(number % 2 == 0) for number in range(24)}


@pytest.mark.parametrize(
    ("reference", "is_good"),
    [
        (json.dumps(SUM), True),
        (json.dumps([{"input": "[1]", "output": "2", "testtype": "functional"}]), True),
        ("def check(candidate):\n    assert candidate(1)", True),
        ("    return 1", True),
        ('{"cases": []}', False),
        ('{"tests": []}', False),
        ('["assert f("]', False),
    ],
)
def test_a_reference_of_unknown_shape_is_named(verifier: CodeTestsVerifier, reference: str, is_good: bool) -> None:
    assert (verifier.check_reference(reference) is None) == is_good


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"extract": "box"}, "extract = 'box'.*last_block"),
        ({"score": "mean"}, "score = 'mean'.*share"),
        ({"stop_at_first_failure": 1}, "stop_at_first_failure = 1"),
        ({"float_tolerance": -1}, "float_tolerance = -1"),
        ({"cpu_s": 0}, "cpu_s = 0"),
        ({"memory_mb": 1}, "memory_mb = 1"),
        ({"num_workers": 0}, "num_workers = 0"),
        ({"tests_column": ""}, "tests_column = ''"),
        ({"language": "cpp"}, "language = 'cpp'.*remote"),
        ({"remote": "localhost"}, "remote = 'localhost'.*http"),
    ],
)
def test_a_mistaken_argument_is_named(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeTestsVerifier(**args)


def humaneval() -> list[dict[str, str]]:
    if not HUMANEVAL.exists():
        return []
    return [json.loads(line) for line in gzip.decompress(HUMANEVAL.read_bytes()).decode().splitlines()]


@pytest.mark.skipif(not HUMANEVAL.exists(), reason="HumanEval's file is not beside the repository")
def test_every_eighth_reference_of_humaneval_passes_and_no_empty_body_does(verifier: CodeTestsVerifier) -> None:
    for row in [*humaneval()[::8], *(row for row in humaneval() if row["task_id"].endswith(("/32", "/38", "/50")))]:
        columns = {"entry_point": row["entry_point"], "test": row["test"]}
        question = Question(text=row["prompt"], reference=row["canonical_solution"], columns=columns)
        assert verifier.verify(row["canonical_solution"], question).reason == "", row["task_id"]
        assert verifier.verify("    pass\n", question).score == 0.0, row["task_id"]


@pytest.mark.slow
@pytest.mark.skipif(not HUMANEVAL.exists(), reason="HumanEval's file is not beside the repository")
def test_every_reference_of_humaneval_passes() -> None:
    verifier = CodeTestsVerifier()
    failed = []
    for row in humaneval():
        question = Question(text=row["prompt"], reference=row["test"], columns={"entry_point": row["entry_point"]})
        chatty = f"Sure.\n```python\n{row['prompt']}{row['canonical_solution']}```\n"
        failed += [row["task_id"]] if verifier.verify(chatty, question).score != 1.0 else []
    verifier.close()
    assert failed == []
