"""Programs as LiveCodeBench, APPS and MBPP have them judged: what their judges provide is there, and their limits hold.

Each case is a right program and wrong ones that come near it.
"""

import json
from typing import Any

import pytest

from rewards import Question, Status, Verdict
from rewards.code_program import BRIDGE, Program, answering, script, with_function
from rewards.code_tests import CodeTestsVerifier
from tests.sandboxed import skip_without_sandbox, whole_answers

skip_without_sandbox()


verifier = whole_answers(cpu_s=3.0)


def judge(verifier: CodeTestsVerifier, code: str, **columns: Any) -> Verdict:
    return verifier.verify(code, Question(text="", reference="", columns=columns))


def functional(name: str, *pairs: tuple[str, str]) -> dict[str, str]:
    cases = [{"input": given, "output": output, "testtype": "functional"} for given, output in pairs]
    return {"public_test_cases": json.dumps(cases), "metadata": json.dumps({"func_name": name})}


def printed(*pairs: tuple[str, str]) -> dict[str, str]:
    cases = [{"input": given, "output": output, "testtype": "stdin"} for given, output in pairs]
    return {"public_test_cases": json.dumps(cases), "metadata": "{}"}


TWO_SUM = functional("twoSum", ("[2, 7, 11]\n9", "[0, 1]"), ("[3, 3]\n6", "[0, 1]"))
CLIMB = functional("climb", ("2", "2"), ("2000", "2000"))
LIVECODEBENCH = {
    "a method": (
        TWO_SUM,
        "class Solution:\n    def twoSum(self, xs: List[int], t: int) -> List[int]:\n        seen = {}\n"
        "        for i, x in enumerate(xs):\n            if t - x in seen: return [seen[t - x], i]\n"
        "            seen[x] = i",
        "class Solution:\n    def twoSum(self, xs, t): return [0, 0]",
    ),
    "recursion 2000 deep": (
        CLIMB,
        "class Solution:\n    @cache\n    def climb(self, n): return 0 if n == 0 else 1 + self.climb(n - 1)",
        "class Solution:\n    def climb(self, n): return 2 if n < 3 else 1 + self.climb(n)",
    ),
    "names that judges have imported": (
        functional("f", ("[[1]]", "[[1, 2]]")),
        "class Solution:\n    def f(self, xs):\n        ys = deepcopy(xs); ys[0].append(gcd(4, 6))\n"
        "        heappush([], 1); deque(); Counter(); defaultdict(int); bisect_left([], 0); list(accumulate([1]))\n"
        "        return ys",
        "class Solution:\n    def f(self, xs): return copy(xs)",
    ),
    "a method that is a lambda": (
        functional("f", ("3", "9")),
        "class Solution: f = lambda self, n: n * n",
        "class Solution: f = lambda self, n: n + n",
    ),
    "a static method": (
        functional("f", ("3", "9")),
        "class Solution:\n    @staticmethod\n    def f(n): return n * n",
        "class Solution:\n    @staticmethod\n    def g(n): return n * n",
    ),
    "a function": (functional("f", ("3", "9")), "f = lambda n: n * n", "def g(n): return n * n"),
    "a future import in front": (
        functional("f", ("[1]", "2.0")),
        '"""Doc."""\nfrom __future__ import annotations  # first\ndef f(xs: List[int]): return sqrt(4 * xs[0])',
        "from __future__ import annotations\ndef f(xs: List[int]): return sqrt(xs[0])",
    ),
    "the modules in a script": (
        printed(("4 6\n", "2\n"), ("9 6\n", "3\n")),
        "a, b = map(int, input().split())\nprint(math.gcd(a, b), file=sys.stdout)",
        "a, b = map(int, input().split())\nprint(math.lcm(a, b))",
    ),
    "a whole number written as a decimal": (
        printed(("6\n", "3\n"), ("7\n", "3\n")),
        "print(float(int(input()) // 2))",
        "print(int(input()) / 2)",
    ),
    "a sum that is off by one in a million": (
        printed(("1234567.89 0\n", "1234567.89\n")),
        "print(sum(map(float, input().split())))",
        "print(1 + sum(map(float, input().split())))",
    ),
    "a long output": (
        printed(("220000", "".join(f"{n}\n" for n in range(220_000)))),
        "for i in range(int(input())): print(i)",
        "for i in range(int(input()) - 1): print(i)",
    ),
    "a long list": (
        functional("f", ("200000", json.dumps(list(range(200_000))))),
        "def f(n): return tuple(range(n))",
        "def f(n): return list(range(n + 1))",
    ),
    "pairs, a generator, and keys": (
        functional("f", ("2", "[[0, 1], [1, 2]]")),
        "def f(n): return zip(range(n), {i + 1: 0 for i in range(n)}.keys())",
        "def f(n): return zip(range(n), range(n))",
    ),
}


@pytest.mark.parametrize("name", LIVECODEBENCH)
def test_programs_in_livecodebenchs_form(verifier: CodeTestsVerifier, name: str) -> None:
    columns, right, wrong = LIVECODEBENCH[name]
    assert judge(verifier, right, **columns).reason == ""
    assert judge(verifier, wrong, **columns).score == 0.0


LINKED = "class Node:\n    def __init__(self, data): self.data, self.next = data, None\n"
MBPP = {
    "shared elements": (
        ["assert set(similar((3, 4, 5), (5, 7, 4))) == set((4, 5))"],
        "def similar(a, b): return tuple(set(a) & set(b))",
        "def similar(a, b): return tuple(set(a) | set(b))",
    ),
    "a capital letter, but no class": (
        ["assert Extract([[1, 2], [3]]) == [1, 3]", "assert Extract([[7]]) == [7]"],
        "def Extract(xs): return [x[0] for x in xs]",
        "class Extract(list):\n    def __init__(self, xs): super().__init__([1, 3])",
    ),
    "a tolerance": (
        ["assert math.isclose(area(5), 78.53981633974483, rel_tol=0.001)"],
        "def area(r): return 3.14159 * r * r",
        "class A(float):\n    __float__ = lambda s: 78.54\n    __sub__ = __rsub__ = lambda s, o: 0.0\n"
        "def area(r): return A(1)",
    ),
    "a heap": (
        ["assert heap([25, 35, 22], 2) == [35, 25]"],
        "import heapq as hq\ndef heap(xs, n): return hq.nlargest(n, xs)",
        "def heap(xs, n): return xs",
    ),
    "a tree of the tests'": (
        ["root = Node(1); root.next = Node(2)\nassert length(root) == 2", "assert length(None) == 0"],
        f"{LINKED}def length(n): return 0 if n is None else 1 + length(n.next)",
        f"{LINKED}def length(n): return 1",
    ),
    "an order in place": (
        ["xs = [3, 1, 2]\nsort(xs)\nassert xs == [1, 2, 3]"],
        "def sort(xs):\n    for i in range(len(xs)):\n        for j in range(i):\n"
        "            if xs[i] < xs[j]: xs[i], xs[j] = xs[j], xs[i]",
        "def sort(xs): return sorted(xs)",
    ),
    "the truth itself": (
        ["assert is_even(2) == True", "assert is_even(3) is False"],
        "def is_even(n): return n % 2 == 0",
        "def is_even(n): return 1 - n % 2",
    ),
    "a dictionary": (
        ["assert count('aab') == {'a': 2, 'b': 1}"],
        "from collections import Counter\ndef count(s): return Counter(s)",
        "def count(s): return {'a': 2}",
    ),
    "a generator in a list": (
        ["assert list(evens(5)) == [0, 2, 4]"],
        "def evens(n):\n    for i in range(0, n, 2): yield i",
        "def evens(n):\n    for i in range(0, n - 2, 2): yield i",
    ),
    "an error": (
        ["try:\n    root(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False", "assert root(4) == 2"],
        "import math\ndef root(x): return math.sqrt(x)",
        "def root(x): return x ** 0.5",
    ),
}


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("name", MBPP)
def test_programs_in_mbpps_form(verifier: CodeTestsVerifier, name: str, with_reference: bool) -> None:
    tests, right, wrong = MBPP[name]
    for code, score in ((right, 1.0), (wrong, 0.0)):
        columns = {"test_list": tests}
        verdict = verifier.verify(code, Question(text="", reference=right if with_reference else "", columns=columns))
        assert verdict.score == score, verdict.reason


@pytest.mark.parametrize(
    ("name", "code", "score"),
    [
        ("gcd", "pass", 0.0),
        ("gcd", "class Solution: pass", 0.0),
        ("max", "pass", 0.0),
        ("gcd", "class Solution:\n    def gcd(self, a, b): return gcd(a, b)", 1.0),
        ("gcd", "from math import gcd", 1.0),
        ("gcd", "def gcd(a, b): return a if b == 0 else gcd(b, a % b)", 1.0),
    ],
)
def test_what_judges_have_imported_is_no_answer(
    verifier: CodeTestsVerifier, name: str, code: str, score: float
) -> None:
    assert judge(verifier, code, **functional(name, ("4\n2", "2" if name == "gcd" else "4"))).score == score


def test_what_stands_before_a_program_moves_no_line_of_it(verifier: CodeTestsVerifier) -> None:
    for code in ("x = 1\ny = x +\n", "from __future__ import annotations\nprint(1 / 0)", "a = 1\nprint(b)"):
        for columns in (printed(("", "1")), functional("f", ("1", "1")), {"test_list": ["assert f(1) == 1"]}):
            assert "in line 2" in judge(verifier, code, **columns).reason


def test_every_form_of_a_future_import_stays_in_front() -> None:
    plain = "from __future__ import annotations, division; x = 1"
    bracketed = "from __future__ import (\n    annotations,\n)\nx = 1"
    commented = "from __future__ import (  # first\n    annotations,\n)\nx = 1"
    for code in (plain, bracketed, commented, "# no\nx = 1"):
        for program in (script(code), with_function(code, "x")[0], answering(Program(code))):
            names: dict[str, Any] = {}
            exec(compile(program.text, "<program>", "exec", dont_inherit=True), names)
            assert names["x"] == 1
            assert BRIDGE in names or ("gcd" in names) == (code != commented)


def test_a_program_that_loops_on_every_test_is_stopped_after_some() -> None:
    verifier = CodeTestsVerifier(extract="whole", score="share", cpu_s=0.2)
    columns = printed(*[(f"{n}\n", f"{n}\n") for n in range(40)])
    verdict = judge(verifier, "n = int(input())\nwhile 9 < n < 20: pass\nprint(n)", **columns)
    verifier.close()
    assert (verdict.score, verdict.status) == (0.25, Status.WRONG)
    assert "10 of 40" in verdict.reason
