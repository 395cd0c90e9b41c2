"""The program that is run, made of what the model wrote and what its kind of test puts around it.

Model-written text is looked at with regular expressions alone: parsing it is the sandbox's business.
"""

import re
from typing import NamedTuple

from rewards.code_suite import AssertSuite

# What judges of functions have imported already. ``builtins`` last, for ``math`` has a ``pow`` of its own.
_PREAMBLE = (
    "import bisect, collections, copy, datetime, functools, heapq, itertools, json, math, operator, random, re, "
    "statistics, string, sys; from typing import *; from collections import *; from heapq import *; "
    "from bisect import *; from itertools import *; from functools import *; from math import *; "
    "from builtins import *\n"
)
_FUTURE = re.compile(r"^from\s+__future__\s+import\b", re.MULTILINE)
_ADAPTER = "call_method_of_solution"


class Program(NamedTuple):
    text: str
    num_lines_before: int = 0  # that are not the model's

    def line(self, line: int | None) -> int | None:
        """A line of the program as a line of what the model wrote; None where it is none."""
        return line - self.num_lines_before if line is not None and line > self.num_lines_before else None


def completed(code: str, suite: AssertSuite) -> Program:
    """With the prompt before it: all of it where the code goes on from it, else what it has before the function."""
    before = suite.prompt
    start = _definition(suite.entry_point, suite.prompt) if suite.entry_point else None
    if start is None:
        return Program(code)
    if _definition(suite.entry_point, code) is not None:
        before = "" if _FUTURE.search(code) else suite.prompt[:start]
    elif not before.endswith("\n"):
        before += "\n"
    return Program(before + code, before.count("\n"))


def with_function(code: str, function: str) -> tuple[Program, str]:
    """The program to call ``function`` in, and the name to call it by; it may be a method of a class ``Solution``."""
    before = "" if _FUTURE.search(code) else _PREAMBLE
    is_method = re.search(rf"^[ \t]+(?:async[ \t]+)?def[ \t]+{function}\b", code, re.MULTILINE)
    if is_method is None or not re.search(r"^class[ \t]+Solution\b", code, re.MULTILINE):
        return Program(before + code, before.count("\n")), function
    adapter = f"\n\ndef {_ADAPTER}(*args, **kwargs):\n    return Solution().{function}(*args, **kwargs)\n"
    return Program(before + code + adapter, before.count("\n")), _ADAPTER


def _definition(name: str, code: str) -> int | None:
    """Where the last definition of ``name`` at the top level begins."""
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]*)?=(?!=))"
    starts = [match.start() for match in re.finditer(pattern, code, re.MULTILINE)]
    return starts[-1] if starts else None
