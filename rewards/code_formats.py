"""Tests as the hub's datasets have them, recognized by their shape: a row's columns, or one value that holds all.

- HumanEval: ``prompt``, ``test``, ``entry_point``.
- MBPP: ``test_list`` and ``challenge_test_list``, asserts; ``test_setup_code``, ``test_imports``; ``code``.
- LiveCodeBench: ``public_test_cases`` and ``private_test_cases``; for functions, ``metadata`` with ``func_name``.
- APPS and TACO: ``input_output`` with ``inputs``, ``outputs`` and, for functions, ``fn_name``.
- Codeforces: ``official_tests`` and ``generated_checker``; CodeContests: ``public_tests``, ``private_tests`` and
  ``generated_tests``, each with ``input`` and ``output``.
- Our own: ``{"tests": [{"stdin": …, "stdout": …}]}``, with ``"checker"`` where several outputs are right;
  ``{"function": "add", "tests": [{"call": [1, 2], "returns": 3}]}``; ``{"tests": ["assert add(1, 2) == 3"]}``.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from rewards.code_pickled import unpack
from rewards.code_suite import AssertSuite, CallSuite, CallTest, OutputSuite, OutputTest, Suite
from rewards.number import shorten
from rewards.verdict import Question

Row = Mapping[str, Any]

AUTO, REFERENCE = "auto", "reference"  # where tests may stand, beside the names of columns
KNOWN = "HumanEval, MBPP, LiveCodeBench, APPS, TACO, Codeforces, CodeContests, or {'tests': [...]}"
_METHOD = re.compile(r"def\s+(\w+)\s*\(\s*self\b")
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def read_suite(question: Question, where: str = AUTO) -> Suite:
    """The tests of a question.

    ``where``: ``auto``, the columns if their shape is known, else the reference; ``reference``; or a column's name.

    Raises:
        ValueError: there are none there, or in no shape that is known; the message says which and where.
    """
    row: Row = {"prompt": question.text, **question.columns}
    if where == AUTO:
        return _from_row(_completed(row, question.reference)) or parse_tests(question.reference, row)
    if where == REFERENCE:
        return parse_tests(question.reference, row)
    if where not in question.columns:
        there = ", ".join(question.columns) or "none"
        raise ValueError(f"tests_column = {where!r}: the question has no such column; it has {there}")
    return parse_tests(question.columns[where], row)


def parse_tests(value: object, row: Row) -> Suite:
    """The tests that one value holds; what else they need, such as a function's name, stands in ``row``.

    >>> parse_tests('{"tests": [{"stdin": "2", "stdout": "4"}]}', {})
    OutputSuite(tests=(OutputTest(stdin='2', stdout='4'),), checker='')

    Raises:
        ValueError: its shape is none of those known.
    """
    if isinstance(value, str):
        value = _read_text(value)
    if isinstance(value, str):
        return _from_code(value, row)
    if isinstance(value, Mapping):
        suite = _from_row({**row, **value}, own=value)
        if suite is None:
            raise ValueError(
                f"the members {', '.join(map(str, value)) or '(none)'} are those of no known tests: {KNOWN}"
            )
        return suite
    items = _list_of(value)
    if items and all(isinstance(item, str) for item in items):
        return _mbpp({**row, "test_list": items})
    if items and all(isinstance(item, Mapping) for item in items):
        return _own({**row, "tests": items})
    raise ValueError(f"{shorten(repr(value))} is no known form of tests: {KNOWN}")


def _from_row(row: Row, own: Row | None = None) -> Suite | None:
    """The suite of the first shape whose columns are there; ``own``: those that count, where others merely stand by."""
    names = row if own is None else own
    for columns, read in _SHAPES:
        if all(_is_filled(names.get(column)) for column in columns):
            return read(row)
    return None


def _completed(row: Row, reference: str) -> Row:
    """The row with the column that was taken out of it to be the reference, where one can tell which it was."""
    both = ("public_test_cases", "private_test_cases")
    missing = [name for name in both if name not in row]
    if "entry_point" in row and "test" not in row and "def check" in reference:
        return {**row, "test": reference}
    if len(missing) == 1:
        return {**row, missing[0]: reference}
    right = "code" if "test_list" in row else "canonical_solution"
    return {right: reference, **row}


def _humaneval(row: Row) -> Suite:
    name = str(row["entry_point"])
    if not name.isidentifier():
        raise ValueError(f"entry_point = {name!r}: the name of a function is needed")
    return AssertSuite(
        tests=(f"check({name})",),
        setup=_text(row, "test"),
        prompt=str(row.get("prompt") or ""),
        entry_point=name,
        reference=str(row.get("canonical_solution") or ""),
    )


def _mbpp(row: Row) -> Suite:
    setup = [str(line) for line in _list_of(row.get("test_imports"))]
    return AssertSuite(
        tests=_some(str(test) for test in (*_list_of(row["test_list"]), *_list_of(row.get("challenge_test_list")))),
        setup="\n".join([*setup, str(row.get("test_setup_code") or "")]),
        entry_point=str(row.get("entry_point") or ""),
        reference=str(row.get("code") or ""),
    )


def _livecodebench(row: Row) -> Suite:
    cases: list[object] = []
    for name in ("public_test_cases", "private_test_cases"):
        value = row.get(name)
        if _is_filled(value):
            cases += _list_of(_read_text(value) if isinstance(value, str) else value)
    return _own({**row, "tests": cases})


def _apps(row: Row) -> Suite:
    inside = row["input_output"]
    inside = _read_text(inside) if isinstance(inside, str) else inside
    if not isinstance(inside, Mapping):
        raise ValueError(f"input_output = {shorten(repr(inside))}: an object with inputs and outputs is needed")
    return _inputs_outputs({"fn_name": row.get("fn_name"), **inside})


def _inputs_outputs(row: Row) -> Suite:
    inputs, outputs = _list_of(row.get("inputs")), _list_of(row.get("outputs"))
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs: as many of one as of the other are needed")
    pairs = list(zip(inputs, outputs, strict=True))
    function = str(row.get("fn_name") or "")
    if not function:
        return OutputSuite(tests=_some(OutputTest(stdin=_lines(given), stdout=_lines(out)) for given, out in pairs))
    # Most problems hold each result in a list of its own; which ones, only their authors know.
    wrapped = all(isinstance(output, list) and len(output) == 1 for output in outputs)
    return CallSuite(
        tests=_some(
            CallTest(
                function=function,
                args=tuple(_restore_keys(argument) for argument in _list_of(given)),
                returns=(output, output[0]) if wrapped else (output,),
            )
            for given, output in pairs
        )
    )


def _codeforces(row: Row) -> Suite:
    if row.get("interaction_format"):
        raise ValueError("an interactive problem: its program talks with a judge, which is not provided for")
    if row.get("input_mode") not in (None, "", "stdio"):
        raise ValueError(f"input_mode = {row['input_mode']!r}: only programs that read standard input can be tested")
    suite = _own({**row, "tests": row["official_tests"]})
    checker = str(row.get("generated_checker") or row.get("checker") or "")
    assert isinstance(suite, OutputSuite)
    return OutputSuite(tests=suite.tests, checker=checker)


def _contests(row: Row) -> Suite:
    tests = []
    for name in ("public_tests", "private_tests", "generated_tests"):
        part = row.get(name)
        if isinstance(part, Mapping):
            pairs = zip(_list_of(part.get("input")), _list_of(part.get("output")), strict=True)
            tests += [OutputTest(stdin=_lines(given), stdout=_lines(output)) for given, output in pairs]
    return OutputSuite(tests=_some(tests), checker=str(row.get("checker") or ""))


def _own(row: Row) -> Suite:
    """Tests as a list: asserts; input and output; or calls. Members have our names, or those of the datasets."""
    tests = row["tests"]
    tests = _list_of(_read_text(tests) if isinstance(tests, str) else tests)
    if tests and all(isinstance(test, str) for test in tests):
        return _mbpp({**row, "test_list": tests, "test_setup_code": row.get("setup") or row.get("test_setup_code")})
    for test in tests:
        if not isinstance(test, Mapping):
            raise ValueError(f"test {shorten(repr(test))}: an object or an assert is needed, the same for all")
    if any("returns" in test or test.get("testtype") == "functional" for test in tests):
        return CallSuite(tests=_some(_call(test, row) for test in tests))
    return OutputSuite(tests=_some(_output(test) for test in tests), checker=str(row.get("checker") or ""))


def _call(test: Row, row: Row) -> CallTest:
    name = test.get("function") or row.get("function") or row.get("fn_name") or row.get("entry_point")
    if test.get("testtype") == "functional":
        lines = str(test.get("input", "")).split("\n")
        args = [_json(line, "input") for line in lines if line.strip()]
        returns = _json(str(test.get("output", "")), "output")
        name = name or _function_of(row)
    elif "returns" in test and "call" in test:
        args, returns = _list_of(test["call"]), test["returns"]
        if not name and args:
            name, args = args[0], args[1:]
    else:
        raise ValueError(f"test {shorten(repr(dict(test)))}: the members 'call' and 'returns' are needed")
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"function = {shorten(repr(name))}: the name of the function that the tests call is needed")
    return CallTest(function=name, args=tuple(args), kwargs=dict(test.get("kwargs") or {}), returns=(returns,))


def _function_of(row: Row) -> str | None:
    """LiveCodeBench names the function in its metadata, and shows it in the code to start from."""
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.strip():
        metadata = _json(metadata, "metadata")
    named = metadata.get("func_name") or metadata.get("fn_name") if isinstance(metadata, Mapping) else None
    if named:
        return str(named)
    shown = _METHOD.search(str(row.get("starter_code") or ""))
    return shown[1] if shown else None


def _output(test: Row) -> OutputTest:
    for given, expected in (("stdin", "stdout"), ("input", "output")):
        if expected in test:
            return OutputTest(stdin=_lines(test.get(given) or ""), stdout=_lines(test[expected] or ""))
    members = ", ".join(map(str, test)) or "(none)"
    raise ValueError(f"a test with the members {members}: 'stdin' and 'stdout', or 'call' and 'returns' are needed")


def _from_code(text: str, row: Row) -> Suite:
    """Tests that are a text but no JSON: a ``check`` function, or lines that assert."""
    if "def check" in text and row.get("entry_point"):
        return _humaneval({**row, "test": text})
    if re.search(r"^assert\b", text, re.MULTILINE):
        return _mbpp({**row, "test_list": [text]})
    raise ValueError(f"{shorten(text)} is no known form of tests: {KNOWN}")


def _read_text(text: str) -> object:
    """JSON, or JSON in LiveCodeBench's packing; a text that looks like code is returned as it is."""
    try:
        return json.loads(text)
    except ValueError:
        if re.search(r"^(?:assert\b|def |from |import )", text, re.MULTILINE):
            return text
    except RecursionError:
        raise ValueError("tests in brackets too deep to be read") from None
    try:
        return json.loads(unpack(text))
    except ValueError as error:
        raise ValueError(f"{shorten(text)}: {error}. Known are {KNOWN}") from error


def _json(text: str, member: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{member} = {shorten(text)}: JSON is needed ({error})") from error


def _restore_keys(value: object) -> object:
    """JSON has made texts of a dictionary's whole numbers; APPS' own tests make numbers of them again."""
    if isinstance(value, Mapping) and value and all(_INTEGER.fullmatch(str(key)) for key in value):
        return {int(key): item for key, item in value.items()}
    return value


def _lines(value: object) -> str:
    """A text, or the lines of one."""
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _text(row: Row, name: str) -> str:
    if not isinstance(row[name], str):
        raise ValueError(f"column {name!r} = {shorten(repr(row[name]))}: a text is needed")
    return str(row[name])


def _list_of(value: Any) -> list[Any]:
    """A list, or what a table's library holds one in; empty for anything else."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) else []


def _is_filled(value: object) -> bool:
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)


def _some(tests: Any) -> Any:
    found = tuple(tests)
    if not found:
        raise ValueError("there are no tests")
    return found


_SHAPES: tuple[tuple[tuple[str, ...], Callable[[Row], Suite]], ...] = (
    (("test", "entry_point"), _humaneval),
    (("test_list",), _mbpp),
    (("private_test_cases",), _livecodebench),
    (("public_test_cases",), _livecodebench),
    (("input_output",), _apps),
    (("official_tests",), _codeforces),
    (("private_tests",), _contests),
    (("public_tests",), _contests),
    (("inputs", "outputs"), _inputs_outputs),
    (("tests",), _own),
)
