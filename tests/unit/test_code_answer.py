"""Which program is read from an answer, and what is put around it."""

import pytest

from rewards.code_answer import EXTRACTORS, answer_tags, last_block, whole
from rewards.code_program import completed, with_function
from rewards.code_suite import AssertSuite
from rewards.hostile import HOSTILE

SUITE = AssertSuite(
    tests=("check(f)",),
    prompt='import math\n\ndef helper(x):\n    return x\n\ndef f(x):\n    """Doc."""\n',
    entry_point="f",
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```py\nx = 1\n```\nor\n```Python3\nx = 2\n```\n", "x = 2"),
        ("```python\nx = 1\n```\nprints\n```\n1\n```", "x = 1"),
        ("```\nx = 1\n```\nthen\n```\nx = 2\n```", "x = 2"),
        ("```json\n{}\n```", None),
        ("```python\nx = 1\n```\nin C++:\n```cpp\nint x;\n```", "x = 1"),
        ("1. First:\n   ```python\n   if x:\n       y\n   ```", "if x:\n    y"),
        ("~~~python\nx = '```'\n~~~", "x = '```'"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''"),
        ("```python\nx = 1\nand there it ends", "x = 1\nand there it ends"),
        ("```python\nx = 1\n```python\nx = 2\n```", "x = 2"),
        ("<think>```python\nx = 1\n```</think> No code.", None),
        ("<think>```python\nx = 1\n```</think>\n```python\nx = 2\n```", "x = 2"),
        ("```python\n```", None),
        ("```python\n    return x\n```", "    return x"),
        ("x = 1", None),
        ("", None),
    ],
)
def test_the_last_block_of_the_language_is_the_program(text: str, code: str | None) -> None:
    assert last_block(text) == code


def test_a_block_of_another_language_is_asked_for_by_name() -> None:
    text = "```python\nx = 1\n```\n```c++\nint x;\n```"
    assert last_block(text, "cpp") == "int x;"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<answer>x = 1</answer>", "x = 1"),
        ("<answer>\n    return 1\n</answer>", "    return 1"),
        ("<answer>a</answer> <answer>\n```python\nx = 2\n```\n</answer>", "x = 2"),
        ("<answer>x = 1", None),
        ("</answer>", None),
        ("<answer> </answer>", None),
    ],
)
def test_answer_tags_hold_the_program_or_a_block_of_it(text: str, code: str | None) -> None:
    assert answer_tags(text) == code


def test_the_whole_text_keeps_the_blanks_that_it_begins_with() -> None:
    assert whole("<think>hm</think>\n    return 1\n\n") == "    return 1"
    assert whole(" \n ") is None


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_is_too_much_for_a_search(name: str, text: str) -> None:
    code = EXTRACTORS[name](text, "python")
    assert code is None or code.strip()


def test_a_body_goes_on_from_the_prompt() -> None:
    program = completed("    return 2 * x", SUITE)
    assert program.text == f"{SUITE.prompt}    return 2 * x"
    assert program.line(8) == 1
    assert program.line(3) is None


def test_a_whole_function_takes_from_the_prompt_what_stands_before_it() -> None:
    program = completed("def f(x):\n    return helper(x)", SUITE)
    assert program.text == "import math\n\ndef helper(x):\n    return x\n\ndef f(x):\n    return helper(x)"
    assert program.line(7) == 2


@pytest.mark.parametrize("code", ["f = lambda x: x", "async def f(x): pass", "class f: pass", "f: object = 1"])
def test_a_function_may_be_defined_in_other_ways(code: str) -> None:
    assert completed(code, SUITE).text.endswith(f"    return x\n\n{code}")


@pytest.mark.parametrize("code", ["def g(f):\n    f = 1", "# def f(x)", "f == 1", "ff = 1"])
def test_what_only_looks_like_a_definition_is_a_body(code: str) -> None:
    assert completed(code, SUITE).text == SUITE.prompt + code


def test_a_question_in_words_is_no_prompt_to_go_on_from() -> None:
    suite = AssertSuite(tests=("check(f)",), prompt="Write a function f.", entry_point="f")
    assert completed("def f(): pass", suite).text == "def f(): pass"


def test_a_method_of_solution_is_called_by_way_of_an_instance() -> None:
    code = "class Solution:\n    def f(self, x):\n        return [self, x][1] + 1\n"
    program, name = with_function(code, "f")
    namespace: dict[str, object] = {}
    exec(program.text, namespace)
    assert namespace[name](2) == 3  # type: ignore[operator]
    assert program.line(program.num_lines_before + 3) == 3


def test_a_function_is_called_with_what_judges_have_imported() -> None:
    code = "def f(xs: List[int]):\n    return pow(Counter(xs)[1], 2, 3), gcd(4, 6), inf > 1\n"
    program, name = with_function(code, "f")
    namespace: dict[str, object] = {}
    exec(program.text, namespace)
    assert namespace[name]([1, 1]) == (1, 2, True)  # type: ignore[operator]


def test_a_program_that_must_begin_with_its_own_import_does() -> None:
    program, _ = with_function("from __future__ import annotations\ndef f(): pass", "f")
    assert program.text.startswith("from __future__")
    assert program.num_lines_before == 0
