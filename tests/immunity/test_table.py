"""``docs/reliability.md`` and the tests: no row of its table without a test, and no test without a row."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.immunity.threads import THREADS, address

HERE = Path(__file__).parent
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
ROW = re.compile(r"^\| \[(?P<thread>[^]]+)\]\((?P<link>[^)]+)\) \| (?P<bug>.+) \| (?P<guard>.+) \| (?P<tests>.+) \|$")


def rows() -> list[re.Match[str]]:
    found = map(ROW.match, DOCUMENT.read_text(encoding="utf-8").splitlines())
    return [row for row in found if row is not None]


def every_test() -> Iterator[str]:
    """Every test of this folder but those on the table itself, as ``file::function``."""
    for path in sorted(HERE.glob("test_*.py")):
        if path != Path(__file__):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    yield f"{path.name}::{node.name}"


def test_each_thread_has_one_row_that_says_bug_guard_and_tests() -> None:
    assert sorted(row["thread"] for row in rows()) == sorted(THREADS)
    for row in rows():
        assert row["link"] == address(row["thread"])
        assert re.findall(r"`([^`]+)`", row["tests"]) == list(THREADS[row["thread"]]), row["thread"]
        assert all(len(row[part].split()) > 3 for part in ("bug", "guard"))


def test_its_part_of_the_document_has_no_other_table() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").partition("\n## Immunity\n")[2].splitlines()
    assert sum(line.startswith("|") for line in lines) == len(THREADS) + 2  # heading and rule


@pytest.mark.parametrize("named", sorted({name for names in THREADS.values() for name in names}))
def test_each_named_test_is_there(named: str) -> None:
    assert named in set(every_test())


def test_each_test_is_named() -> None:
    assert set(every_test()) == {name for names in THREADS.values() for name in names}
