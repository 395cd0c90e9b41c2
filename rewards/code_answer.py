"""Find the program in what a model wrote."""

import re
from collections.abc import Callable
from typing import NamedTuple

MAX_CHARACTERS = 200_000  # of one program; longer is no answer that a judge would take
_FENCE = re.compile(r"^([ \t]{0,12})(`{3,8}|~{3,8})[ \t]{0,8}([\w+#.-]{0,20})[^\n`]{0,80}$", re.MULTILINE)
_ALIASES = {
    "python": {"python", "py", "python3", "python2", "pypy", "pypy3"},
    "cpp": {"cpp", "c++", "cc", "cxx", "c++17", "cpp17"},
    "java": {"java"},
    "nodejs": {"nodejs", "js", "javascript"},
    "csharp": {"csharp", "cs", "c#"},
    "rust": {"rust", "rs"},
    "go": {"go", "golang"},
}


class _Block(NamedTuple):
    language: str  # lower case; empty where the fence names none
    code: str


def last_block(text: str, language: str = "python") -> str | None:
    """The last fenced block that is marked as of the language; else the last that is marked as of none.

    What stands before ``</think>`` is no answer. A block that the text ends in, its fence still open, counts.

    >>> last_block("Try:\\n```python\\nprint(1)\\n```\\nIt prints:\\n```\\n1\\n```")
    'print(1)'
    """
    blocks = _blocks(text.rpartition("</think>")[2])
    names = _ALIASES.get(language, {language})
    marked = [block.code for block in blocks if block.language in names]
    unmarked = [block.code for block in blocks if not block.language]
    found = marked or unmarked
    return found[-1] if found and found[-1].strip() else None


def answer_tags(text: str, language: str = "python") -> str | None:
    """What stands in the last answer tags, without a fence around it."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    if start < 0:
        return None
    inside = text[start + len("<answer>") : end]
    return last_block(inside, language) if _FENCE.search(inside) else whole(inside)


def whole(text: str, language: str = "python") -> str | None:
    """The text itself, behind the reasoning if there is any; the blanks that it begins with are part of it."""
    code = text.rpartition("</think>")[2]
    return code.strip("\r\n") if code.strip() else None


EXTRACTORS: dict[str, Callable[[str, str], str | None]] = {
    "last_block": last_block,
    "answer_tags": answer_tags,
    "whole": whole,
}


def _blocks(text: str) -> list[_Block]:
    """Every fenced block in order.

    A fence is closed by one at least as long, of the same sign, that names nothing; one that names a language opens
    another block, whatever was open.
    """
    blocks: list[_Block] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None or fence[3]:
            opened = fence
        elif fence[2].startswith(opened[2]):
            blocks.append(_block(text, opened, fence.start()))
            opened = None
    if opened is not None:
        blocks.append(_block(text, opened, len(text)))
    return blocks


def _block(text: str, opened: re.Match[str], end: int) -> _Block:
    code = text[opened.end() + 1 : end].removesuffix("\n")
    indent = opened[1]
    if indent:  # a block in a list stands as far in as its fence
        code = "\n".join(line.removeprefix(indent) for line in code.split("\n"))
    return _Block(opened[3].lower(), code)
