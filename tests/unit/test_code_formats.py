"""The shapes of the hub's datasets, each recognized; none guessed at."""

import base64
import json
import os
import pickle
import zlib
from typing import Any

import pytest

from rewards import Question
from rewards.code_formats import parse_tests, read_suite
from rewards.code_pickled import unpack
from rewards.code_suite import AssertSuite, CallSuite, CallTest, OutputSuite, OutputTest

STDIN_CASES = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
CALL_CASES = [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]


def packed(cases: object) -> str:
    """As LiveCodeBench packs its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def question(reference: str = "", text: str = "", **columns: Any) -> Question:
    return Question(text=text, reference=reference, columns=columns)


@pytest.mark.parametrize("taken", ["test", "canonical_solution"])
def test_humaneval_with_whichever_column_as_reference(taken: str) -> None:
    row = {"prompt": "def f():\n", "test": "def check(candidate):\n    assert candidate() == 1\n", "entry_point": "f"}
    row["canonical_solution"] = "    return 1\n"
    reference = row.pop(taken)
    suite = read_suite(Question(text=row.pop("prompt"), reference=reference, columns=row))
    assert isinstance(suite, AssertSuite)
    assert (suite.prompt, suite.entry_point, suite.tests) == ("def f():\n", "f", ("check(f)",))
    assert "assert candidate() == 1" in suite.setup


def test_mbpp_with_its_code_as_reference() -> None:
    suite = read_suite(
        question(
            reference="def sum(a, b):\r\n return a + b",
            test_list=["assert sum(1, 2) == 3"],
            challenge_test_list=["assert sum(0, 0) == 0"],
            test_setup_code="import math",
            test_imports=["import re"],
        )
    )
    assert isinstance(suite, AssertSuite)
    assert suite.tests == ("assert sum(1, 2) == 3", "assert sum(0, 0) == 0")
    assert suite.setup == "import re\nimport math"
    assert suite.reference.startswith("def sum")


@pytest.mark.parametrize("pack", [json.dumps, packed])
def test_livecodebench_joins_public_and_private_tests(pack: Any) -> None:
    private = [{"input": "5 6", "output": "11", "testtype": "stdin"}]
    suite = read_suite(
        question(reference=pack(private), public_test_cases=json.dumps(STDIN_CASES), metadata="{}", starter_code="")
    )
    assert suite == OutputSuite(
        tests=(OutputTest(stdin="1 2\n", stdout="3\n"), OutputTest(stdin="5 6", stdout="11")), checker=""
    )


@pytest.mark.parametrize(
    "named",
    [
        {"metadata": '{"func_name": "total"}'},
        {"metadata": {"fn_name": "total"}},
        {"metadata": "{}", "starter_code": "class Solution:\n    def total(self, xs: List[int], y: int) -> int:\n"},
    ],
)
def test_livecodebench_calls_the_function_that_it_names(named: dict[str, Any]) -> None:
    suite = read_suite(question(public_test_cases=json.dumps(CALL_CASES), private_test_cases=packed([]), **named))
    assert suite == CallSuite(tests=(CallTest(function="total", args=([1, 2], 3), returns=(6,)),))


def test_apps_and_taco_as_column_and_as_reference() -> None:
    text = json.dumps({"inputs": ["1\n", ["2", "3"]], "outputs": ["1\n", ["4", "5"]]})
    expected = OutputSuite(tests=(OutputTest(stdin="1\n", stdout="1\n"), OutputTest(stdin="2\n3", stdout="4\n5")))
    assert read_suite(question(input_output=text)) == expected
    assert read_suite(question(reference=text)) == expected


def test_apps_results_may_be_wrapped_in_a_list_each() -> None:
    calls = {"fn_name": "f", "inputs": [[1], [{"2": 3}]], "outputs": [[True], [False]]}
    suite = read_suite(question(reference=json.dumps(calls)))
    assert isinstance(suite, CallSuite)
    assert [test.returns for test in suite.tests] == [([True], True), ([False], False)]
    assert suite.tests[1].args == ({2: 3},)
    calls["outputs"] = [[1, 2], [3]]
    suite = read_suite(question(reference=json.dumps(calls)))
    assert isinstance(suite, CallSuite)
    assert [test.returns for test in suite.tests] == [([1, 2],), ([3],)]


def test_codeforces_with_its_checker() -> None:
    suite = read_suite(
        question(official_tests=[{"input": "1", "output": "2"}], generated_checker="print(1)", input_mode="stdio")
    )
    assert suite == OutputSuite(tests=(OutputTest(stdin="1", stdout="2"),), checker="print(1)")


def test_code_contests_has_three_lists_of_tests() -> None:
    suite = read_suite(
        question(
            public_tests={"input": ["1"], "output": ["2"]},
            private_tests={"input": [], "output": []},
            generated_tests={"input": ["3"], "output": ["4"]},
        )
    )
    assert suite == OutputSuite(tests=(OutputTest(stdin="1", stdout="2"), OutputTest(stdin="3", stdout="4")))


@pytest.mark.parametrize(
    "written",
    [
        {"function": "add", "tests": [{"call": [1, 2], "returns": 3}]},
        {"tests": [{"function": "add", "call": [1, 2], "returns": 3}]},
        {"tests": [{"call": ["add", 1, 2], "returns": 3}]},
    ],
)
def test_our_own_calls_name_the_function_in_three_ways(written: dict[str, Any]) -> None:
    expected = CallSuite(tests=(CallTest(function="add", args=(1, 2), returns=(3,)),))
    assert read_suite(question(reference=json.dumps(written))) == expected
    assert read_suite(question(mine=written), "mine") == expected


def test_our_own_outputs_and_asserts() -> None:
    outputs = {"tests": [{"stdin": "1", "stdout": "2"}, {"stdout": "3"}], "checker": "print(1)"}
    assert read_suite(question(reference=json.dumps(outputs))) == OutputSuite(
        tests=(OutputTest(stdin="1", stdout="2"), OutputTest(stdin="", stdout="3")), checker="print(1)"
    )
    for reference in (
        json.dumps({"tests": ["assert f(1)"], "setup": "x = 1"}),
        json.dumps(["assert f(1)"]),
        "assert f(1)",
    ):
        suite = read_suite(question(reference=reference))
        assert isinstance(suite, AssertSuite)
        assert suite.tests == ("assert f(1)",)


@pytest.mark.parametrize(
    ("columns", "reference", "reason"),
    [
        ({}, '{"cases": []}', "cases.*HumanEval"),
        ({}, "[]", "no known form"),
        ({}, "forty-two", "neither JSON nor"),
        ({}, "[" * 100_000, "too deep"),
        ({}, '{"tests": []}', "no known tests|no tests"),
        ({}, '{"tests": [1]}', "an object or an assert"),
        ({}, '{"tests": [{"call": [1], "returns": 2}]}', "function = "),
        ({}, '{"tests": [{"in": 1}]}', "'stdin' and 'stdout'"),
        ({}, '{"inputs": ["1"], "outputs": ["1", "2"]}', "1 inputs and 2 outputs"),
        ({"input_output": "[1]"}, "", "inputs and outputs"),
        ({"official_tests": [{"input": "", "output": ""}], "interaction_format": "talk"}, "", "interactive"),
        ({"official_tests": [{"input": "", "output": ""}], "input_mode": "file"}, "", "input_mode = 'file'"),
        ({"public_test_cases": json.dumps(CALL_CASES)}, "", "function = .*None"),
        ({"test": "def check(c): pass", "entry_point": "a b"}, "", "entry_point = 'a b'"),
    ],
)
def test_what_is_in_no_known_shape_is_named(columns: dict[str, Any], reference: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_suite(question(reference=reference, **columns))


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="tests_column = 'tests'.*it has answer"):
        read_suite(question(answer="1"), "tests")


class Exploit:
    """A pickle that would run a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/this_file_must_never_exist",)


@pytest.mark.parametrize(
    "content", [Exploit(), ["a", "list"], {"a": Exploit()}, 5], ids=["a call", "a list", "a call within", "a number"]
)
def test_a_pickle_of_anything_but_text_is_refused_and_not_run(content: object) -> None:
    with pytest.raises(ValueError, match="only text|not a text"):
        unpack(base64.b64encode(zlib.compress(pickle.dumps(content))).decode())
    assert not os.path.exists("/tmp/this_file_must_never_exist")


def test_a_pickle_that_is_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off|compressed"):
        unpack(packed(STDIN_CASES * 50)[:120])


def test_one_value_of_any_shape_takes_what_it_lacks_from_the_row() -> None:
    suite = parse_tests(CALL_CASES, {"metadata": {"func_name": "total"}})
    assert suite == CallSuite(tests=(CallTest(function="total", args=([1, 2], 3), returns=(6,)),))
