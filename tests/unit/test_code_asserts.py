"""Assert suites in the real sandbox: the tests' own words decide, and what a right program returns can be asked."""

import re
from typing import Any

import pytest

from rewards import Question, Status, Verdict
from rewards.code_asserts import AssertPool
from rewards.code_names import read_names
from rewards.code_suite import AssertSuite
from rewards.code_tests import CodeTestsVerifier
from tests.sandboxed import skip_without_sandbox, whole_answers

skip_without_sandbox()


verifier = whole_answers(cpu_s=2.0)


def judge(verifier: CodeTestsVerifier, code: str, *tests: str, reference: str = "", **columns: Any) -> Verdict:
    return verifier.verify(code, Question(text="", reference=reference, columns={"test_list": list(tests), **columns}))


# What the prompt defines is the tests' own (HumanEval 32, 38, 50).

PROMPT = (
    'import math\n\ndef encode(s: str):\n    """Shift by one."""\n    return "".join(chr(ord(c) + 1) for c in s)\n\n'
)
PROMPT += '\ndef decode(s: str):\n    """Undo encode."""\n'
CHECK = "def check(candidate):\n    for s in ('abc', 'xyz'):\n        assert candidate(encode(s)) == s\n"


@pytest.mark.parametrize(
    ("code", "score"),
    [
        ("    return ''.join(chr(ord(c) - 1) for c in s)\n", 1.0),
        ("def encode(s): return s\ndef decode(s): return s\n", 0.0),
        ("    return s\ndef encode(s): return s\n", 0.0),
    ],
)
def test_a_helper_of_the_prompt_is_not_the_programs(verifier: CodeTestsVerifier, code: str, score: float) -> None:
    question = Question(text=PROMPT, reference="", columns={"entry_point": "decode", "test": CHECK})
    assert verifier.verify(code, question).score == score


def test_a_helper_that_cannot_be_had_leaves_the_program_unscored(verifier: CodeTestsVerifier) -> None:
    prompt = f"Please complete this:\n{PROMPT}"
    verdict = verifier.verify(
        "def decode(s): return s\ndef encode(s): return s",
        Question(text=prompt, reference="", columns={"entry_point": "decode", "test": CHECK}),
    )
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert "encode" in verdict.reason


# Nothing that a program raises or returns ends a test early, or answers for it.


@pytest.mark.parametrize(
    "test",
    [
        "assert all(map(lambda c: f(c[0]) == c[1], [(1, 2), (2, 3)]))",
        "for a, b in map(lambda c: (f(c), c + 1), [1, 2, 3]):\n    assert a == b",
        "def cases():\n    for c in (1, 2):\n        yield f(c) == c + 1\nassert all(cases())",
    ],
)
@pytest.mark.parametrize("error", ["StopIteration", "StopAsyncIteration", "GeneratorExit", "Own"])
def test_what_a_program_raises_ends_no_loop_of_the_tests(verifier: CodeTestsVerifier, test: str, error: str) -> None:
    code = f"class Own(StopIteration): pass\ndef f(x): raise {error}"
    assert judge(verifier, code, test).score == 0.0
    assert judge(verifier, "def f(x): return x + 1", test).score == 1.0


FORGER = """
class Forger:
    def yes(self, *args): return True
    def me(self, *args): return self
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = yes
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __abs__ = __neg__ = __round__ = __getitem__ = me
    startswith = endswith = issubset = isdigit = is_integer = yes
    def __hash__(self): return 0
    def __len__(self): return 3
    def __float__(self): return 3.0
    __int__ = __index__ = lambda self: 3
    def __str__(self): return "3"
    turn = 0
    def __iter__(self):
        self.turn += 1
        return iter([3, 1, 2] if self.turn == 1 else [0, 0, 0])
    def index(self, x): return 0
    def __getattr__(self, name): return self
    __call__ = yes
{f}
"""


@pytest.mark.parametrize(
    "test",
    [
        "assert f(1) == 3",
        "assert 3 == f(1)",
        "assert f(1) == f(2) == 3",
        "assert abs(f(1) - 3.25) < 1e-6",
        "assert math.isclose(f(1), 3.25)",
        "assert math.isclose(f(1), 3.0)",
        "assert f(1) in (3, 4)",
        "assert 3 in f(1)",
        "assert f(1) > 2",
        "assert f('a').startswith('b')",
        "assert set(f(1)) >= {1, 2, 3} and f(1) > {1}",
        "r = f([3, 1, 2])\nassert sorted(r) == [1, 2, 3] and all(a <= b for a, b in zip(r, r))",
        "assert not {1}.isdisjoint(f(1)) and f(1).issubset({1, 2, 3})",
        "assert f(2) * f(3) == 6",
        "assert round(f(1), 2) == 3.25",
        "assert [f(1)] == [3]",
        "assert {'a': f(1)} == {'a': 3}",
        "assert str(f(1)) == '3' and f(1) == 3",
        "z = f(1)\nassert z.real is not None and abs(z - 3j) < 1e-6",
        "assert isinstance(f(1), int)",
        "assert type(f(1)) is int",
        "import collections\nassert collections.Counter(f(1)) == {1: 1, 2: 1, 3: 1}",
        "x = f(1)\nx += 1\nassert x == 4",
        "assert min(f(1), 2) == 2 and max(f(1), 2) == 3",
        "assert f(4)[0] == 3",
    ],
)
@pytest.mark.parametrize("f", ["def f(x): return Forger()", "class f(Forger):\n    def __init__(self, x): pass"])
def test_an_object_of_the_program_answers_no_question_meant_for_a_value(
    verifier: CodeTestsVerifier, test: str, f: str
) -> None:
    assert judge(verifier, FORGER.replace("{f}", f), test).score == 0.0


@pytest.mark.parametrize(
    ("code", "test"),
    [
        (
            "from collections import namedtuple\nT = namedtuple('T', 'x')\n"
            "class A(T):\n    _fields = ('startswith',)\ndef f(x): return A(lambda *a: True)",
            "assert f('a').startswith('b')",
        ),
        (
            "import decimal\nclass D(decimal.Decimal):\n    __eq__ = lambda s, o: True\n    __hash__ = lambda s: 0\n"
            "def f(x): return D(7)",
            "assert f(1) == 3",
        ),
        (
            "import collections\nclass C(collections.Counter):\n    __eq__ = lambda s, o: True\n"
            "def f(x): return C('ab')",
            "assert f(1) == {'x': 1}",
        ),
        (
            "import collections\nclass C(collections.deque):\n    __eq__ = lambda s, o: True\ndef f(x): return C('ab')",
            "assert f(1) == [1]",
        ),
        (
            "import datetime\nclass C(datetime.date):\n    __eq__ = lambda s, o: True\ndef f(x): return C(2020, 1, 1)",
            "import datetime\nassert f(1) == datetime.date(2021, 1, 1)",
        ),
        ("def f(xs): xs.clear(); return xs", "xs = [2, 1]\nassert f(xs) == [1, 2]"),
        ("def f(xs): xs[:] = [xs]; return xs", "xs = [2, 1]\nf(xs)\nassert f(xs) == [1, 2]"),
        (
            "def f(x):\n    y = []\n    for _ in range(290): y = [y]\n    return y",
            "assert f([[[[f(1)] * 1]]] * 20) == 3",
        ),
        ("def f(x): return 'x' * (1 << 21)", "assert f(f(1) + f(2)) == 'y'"),
        ("import sys\ndef f(x): sys.exit(0)", "assert f(1) == 1"),
        ("raise ValueError('negative')", "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False"),
    ],
)
def test_a_subclass_or_a_changed_argument_forges_nothing(verifier: CodeTestsVerifier, code: str, test: str) -> None:
    verdict = judge(verifier, code, test)
    assert verdict.score == 0.0, verdict


@pytest.mark.parametrize(
    ("code", "test", "status"),
    [
        ("def f(x): return range(10 ** 12)", "assert sum(f(3)) == 6", Status.WRONG),
        ("def f(x): return 1 << 70", "assert sum(1 for _ in range(f(3))) == 6", Status.TIMEOUT),
        ("def f(x): return x", "while True: pass\nassert f(1) == 1", Status.HARNESS_ERROR),
    ],
)
def test_without_a_reference_a_stub_says_whose_time_it_was(code: str, test: str, status: Status) -> None:
    verifier = CodeTestsVerifier(extract="whole")
    verifier.pool.close()
    verifier.pool = AssertPool(cpu_s=0.5)
    verdict = judge(verifier, code, test)
    verifier.close()
    assert verdict.status is status, verdict


# What right programs return.

STACK = "class Stack:\n    def __init__(self): self.xs = []\n    def push(self, x): self.xs.append(x)\n"
STACK += "    def pop(self): return self.xs.pop()\n    def __len__(self): return len(self.xs)\n"
NODE = "class Node:\n    def __init__(self, val): self.val, self.left, self.right = val, None, None\n"
HEIGHT = NODE + "def height(n): return 0 if n is None else 1 + max(height(n.left), height(n.right))\n"
VECTOR = "class Vector:\n    def __init__(self, x, y): self.x, self.y = x, y\n"
VECTOR += "    def __add__(self, o): return Vector(self.x + o.x, self.y + o.y)\n"
VECTOR += "    def __abs__(self): return (self.x ** 2 + self.y ** 2) ** 0.5\n"
RIGHT = [
    ("an instance", STACK, "s = Stack(); s.push(1); s.push(2)\nassert s.pop() == 2\nassert len(s) == 1"),
    (
        "a tree made by the tests",
        HEIGHT,
        "r = Node(1); r.left = Node(2)\nassert height(r) == 2\nassert r.left.val == 2",
    ),
    (
        "operators of an instance",
        VECTOR,
        "v = Vector(1, 2) + Vector(2, 2)\nassert (v.x, v.y) == (3, 4)\nassert abs(Vector(3, 4)) == 5",
    ),
    (
        "a static method",
        "class Tools:\n    @staticmethod\n    def double(x): return 2 * x",
        "assert Tools.double(2) == 4",
    ),
    ("an instance known by isinstance", STACK, "assert isinstance(Stack(), Stack) and not isinstance(3, Stack)"),
    (
        "a container",
        "class Bag:\n    def __init__(self, xs): self.xs = xs\n    def __contains__(self, x): return x in self.xs\n"
        "    def __iter__(self): return iter(self.xs)\n    def __getitem__(self, i): return self.xs[i]\n"
        "    def size(self): return 2",
        "b = Bag([1, 2])\nassert b.size() == 2 and 1 in b and 3 not in b and list(b) == [1, 2] and b[1] == 2",
    ),
    (
        "the same object",
        NODE + "def last(n):\n    while n.right: n = n.right\n    return n",
        "a = Node(1); b = Node(2); a.right = b\nassert last(a) is b and last(a) == b and last(a) != a",
    ),
    ("a generator", "def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2]\nassert sum(f(4)) == 6"),
    (
        "an endless generator",
        "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
        "g = f()\nassert [next(g) for _ in range(100)] == list(range(100))",
    ),
    ("a map", "def f(xs): return map(str, xs)", "assert list(f([1, 2])) == ['1', '2']"),
    ("an end of iteration", "def f(): return iter([1])", "g = f()\nassert next(g) == 1 and next(g, None) is None"),
    (
        "a deque",
        "from collections import deque\ndef f(xs): return deque(xs)",
        "assert list(f([1, 2])) == [1, 2]\n"
        "from collections import deque\nassert f([1]) == deque([1])\nassert f([1, 2]).popleft() == 1",
    ),
    ("keys", "def f(d): return d.keys()", "assert sorted(f({2: 0, 1: 0})) == [1, 2]\nassert f({1: 0}) == {1}"),
    (
        "values and items",
        "def f(d): return d.values(), d.items()",
        "v, i = f({1: 2})\nassert list(v) == [2] and list(i) == [(1, 2)] and i == {(1, 2)}",
    ),
    (
        "a Decimal",
        "from decimal import Decimal\ndef f(x): return Decimal(x) / 4",
        "from decimal import Decimal\nassert f(1) == Decimal('0.25') and float(f(1)) == 0.25",
    ),
    (
        "a Fraction",
        "from fractions import Fraction\ndef f(a, b): return Fraction(a, b)",
        "from fractions import Fraction\nassert f(2, 4) == Fraction(1, 2)\nassert f(1, 2).denominator == 2",
    ),
    ("a Decimal given", "def f(x): return x * 2", "from decimal import Decimal\nassert f(Decimal('1.5')) == 3"),
    (
        "a named tuple",
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
        "assert f().x == 1 and f() == (1, 2) and f()._asdict() == {'x': 1, 'y': 2}",
    ),
    (
        "a dataclass",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(): return P(1)",
        "assert f().x == 1",
    ),
    (
        "a Counter",
        "from collections import Counter\ndef f(s): return Counter(s)",
        "assert f('aab').most_common(1) == [('a', 2)]\nassert f('aab')['z'] == 0\nassert f('a') == {'a': 1}",
    ),
    (
        "a defaultdict",
        "from collections import defaultdict\ndef f():\n    d = defaultdict(int)\n    d[1] += 1\n    return d",
        "assert f()[2] == 0 and f() == {1: 1}",
    ),
    (
        "a date",
        "import datetime\ndef f(s): return datetime.date.fromisoformat(s) + datetime.timedelta(1)",
        "import datetime\nassert f('2024-02-28') == datetime.date(2024, 2, 29) and f('2024-02-28').day == 29",
    ),
    ("a function", "def f(a): return lambda b: a + b", "assert f(1)(2) == 3\nassert list(map(f(1), [1, 2])) == [2, 3]"),
    ("a type", "def f(x): return type(x)", "assert f(3) is int and f('') == str"),
    ("a list changed in place", "def srt(x): x.sort()", "x = [3, 1, 2]\nsrt(x)\nassert x == [1, 2, 3]"),
    (
        "lists within lists changed in place",
        "def f(m):\n    m.reverse()\n    for row in m: row.append(0)",
        "a = [1]; m = [a, [2]]\nf(m)\nassert m == [[2, 0], [1, 0]]\nassert m[1] is a and a == [1, 0]",
    ),
    (
        "a dict, a set and a keyword changed in place",
        "def f(d, s, *, k):\n    d['x'] = s.pop(); k.extend([1])",
        "d, s, k = {}, {1}, []\nf(d, s, k=k)\nassert (d, s, k) == ({'x': 1}, set(), [1])",
    ),
    ("an argument returned", "def f(x):\n    x.append(1)\n    return x", "x = []\nassert f(x) is x and x == [1]"),
    (
        "an exception of its own",
        "class MyErr(Exception): pass\ndef f(x): raise MyErr('no')",
        "try:\n    f(1)\n    assert False\nexcept MyErr as error:\n    assert str(error) == 'no'",
    ),
    (
        "an exception of its own, by its base",
        "class MyErr(ValueError):\n    def __init__(self, code):\n"
        "        super().__init__('bad'); self.code = code\ndef f(x): raise MyErr(7)",
        "try:\n    f(1)\nexcept ValueError as error:\n    assert error.code == 7 and error.args == ('bad',)\nelse:\n"
        "    assert False",
    ),
    (
        "an exit that is asked for",
        "import sys\ndef f(x): sys.exit(2)",
        "try:\n    f(1)\n    ended = False\nexcept SystemExit as error:\n    ended = True\nassert ended",
    ),
    ("a constant", "N = 5\ndef f(n): return n + 1", "assert N == 5\nassert f(N) == 6"),
    ("a list of the program's", "log = []\ndef f(x): log.append(x)", "f(1)\nf(2)\nassert log == [1, 2]"),
    (
        "a list 150 deep",
        "def f(n):\n    x = []\n    for _ in range(n): x = [x]\n    return x",
        "x = f(150)\nfor _ in range(150): x, = x\nassert x == []",
    ),
    ("a long list", "def f(n): return list(range(n))", "assert f(200000) == list(range(200000))"),
    ("a long argument", "def f(xs): return len(xs)", "assert f(list(range(300000))) == 300000"),
    (
        "an assert that is caught",
        "def f(x): return 2",
        "try:\n    assert f(1) == 1\nexcept AssertionError:\n    assert f(1) == 2",
    ),
]


@pytest.mark.parametrize(("code", "test"), [case[1:] for case in RIGHT], ids=[case[0] for case in RIGHT])
def test_a_right_program_passes_whatever_it_returns(verifier: CodeTestsVerifier, code: str, test: str) -> None:
    assert judge(verifier, code, test).reason == ""
    assert judge(verifier, "def g(): pass", test).score == 0.0


def test_objects_of_the_setup_cross_as_those_of_the_tests(verifier: CodeTestsVerifier) -> None:
    columns = {"test_setup_code": "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)"}
    tests = ("assert height(root) == 3", "assert height(root.left) == 2")
    assert judge(verifier, HEIGHT, *tests, reference=HEIGHT, **columns).score == 1.0
    assert judge(verifier, HEIGHT.replace("1 + max", "2 + max"), *tests, reference=HEIGHT, **columns).score == 0.0


def test_objects_compared_with_each_other_leave_the_program_unscored(verifier: CodeTestsVerifier) -> None:
    code = f"{VECTOR}    def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)\n"
    test = "v = Vector(1, 2) + Vector(2, 2)\nassert v == Vector(3, 4)\nassert v.x == 3"
    for reference in ("", code):
        verdict = judge(verifier, code, test, reference=reference)
        assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
        assert re.search("compare|reference", verdict.reason), verdict.reason


def test_what_the_reference_fails_at_too_is_not_held_against_a_program(verifier: CodeTestsVerifier) -> None:
    code = "class Odd:\n    def __len__(self): return 3\ndef f(x): return Odd()"
    verdict = judge(verifier, code, "assert len(f(1)) == 3", reference=code)
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert "reference" in verdict.reason
    assert judge(verifier, code, "assert len(f(1)) == 3", reference="def f(x): return 'abc'").score == 0.0


@pytest.mark.parametrize(
    ("tests", "classes"),
    [
        (["assert Extract([1]) == 1", "r = Extract([2])\nr.sort()\nassert 2 in r"], ()),
        (["s = Stack()\nassert s.pop() is None"], ("Stack",)),
        (["v = Vector(1, 2) + Vector(3, 4)\nassert v.x == 4"], ("Vector",)),
        (["assert Circle(2).area() > 12"], ("Circle",)),
        (["assert Tools.double(2) == 4"], ("Tools",)),
        (["assert isinstance(Bag([1]), Bag)"], ("Bag",)),
        (["q = queue()\nq.push(1)"], ()),
    ],
)
def test_only_what_the_tests_use_as_a_class_is_asked_for_objects(tests: list[str], classes: tuple[str, ...]) -> None:
    assert read_names(AssertSuite(tests=tuple(tests))).classes == classes


def test_a_reference_says_what_is_a_class() -> None:
    tests = ("assert bag([1]).size == 1 and Extract() == []",)
    names = read_names(AssertSuite(tests=tests, reference="class bag: pass\ndef Extract(): pass"))
    assert names.classes == ("bag",)


def test_an_iterator_that_the_tests_give_crosses_as_one(verifier: CodeTestsVerifier) -> None:
    code = "def f(xs): return next(xs), list(xs)"
    assert judge(verifier, code, "assert f(iter([1, 2, 3])) == (1, [2, 3])").reason == ""


def test_a_method_where_a_value_belongs_buys_no_verdict(verifier: CodeTestsVerifier) -> None:
    code = f"{STACK}def f(x): return Stack()\ndef g(x): return x"
    assert judge(verifier, code, "assert g(f(1).push) == 3").score == 0.0
