"""The program that is run, made of what the model wrote and what its kind of test puts around it.

Model-written text is looked at with regular expressions alone: parsing it is the sandbox's business.
"""

import marshal
import re
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rewards.code_suite import AssertSuite

# What judges have imported already, and the depth of recursion that they allow (LiveCodeBench's do both). Later names
# win: ``math`` has a ``pow`` of its own, ``io`` an ``open``, and the modules come behind what is in them.
_MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json"),
)
_PREAMBLE = (
    "from typing import *; "
    + "; ".join(f"from {module} import *" for module in _MODULES)
    + f"; from builtins import *; import {', '.join(_MODULES)}; sys.setrecursionlimit(50000)"
)
_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import\b", re.MULTILINE)
_PLAIN_FUTURE = re.compile(
    r"^from[ \t]+__future__[ \t]+import[ \t]*(?:\([\w\s,]*\)|\w+(?:[ \t]*,[ \t]*\w+)*)[ \t]*(?=;|#|$)", re.MULTILINE
)
_ADAPTER, _GIVEN = "call_function_or_method", "given_function"
BRIDGE = "answer_the_tests"


class Program(NamedTuple):
    text: str
    num_lines_before: int = 0  # that are not the model's

    def line(self, line: int | None) -> int | None:
        """A line of the program as a line of what the model wrote; None where it is none."""
        return line - self.num_lines_before if line is not None and line > self.num_lines_before else None


def script(code: str) -> Program:
    """A program that reads standard input, with what judges have imported.

    >>> script("print(gcd(4, 6))").num_lines_before
    1
    """
    return _led_by(_PREAMBLE, Program(code)) or Program(code)


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


def before_entry_point(suite: AssertSuite) -> str:
    """What the prompt has before the function that is to be written; all of it where it does not show that one."""
    if not suite.entry_point:
        return ""
    return suite.prompt[: _definition(suite.entry_point, suite.prompt)]


def answering(program: Program) -> Program:
    """The program with the bridge (``rewards.code_bridge``), which the tests call by the name ``BRIDGE``."""
    return _led_by(_bridge(), program) or Program(f"{program.text}\n{_bridge()}\n", program.num_lines_before)


def with_function(code: str, function: str) -> tuple[Program, str]:
    """The program to call ``function`` in, and the name to call it by; it may be a method of a class ``Solution``.

    What judges have imported is at hand in it, but no answer: ``add`` is ``operator``'s where the program defines none.
    """
    given = (
        f"{_GIVEN} = functools.partial({function}) if callable(globals().get({function!r})) else None; "
        f"globals().update({{{function!r}: {_GIVEN}}} if {_GIVEN} else {{}})"
    )
    adapter = (
        f"\n\ndef {_ADAPTER}(*args, **kwargs):\n"
        f"    names, name = globals(), {function!r}\n"
        "    if hasattr(names.get('Solution'), name):\n"
        "        return getattr(names['Solution'](), name)(*args, **kwargs)\n"
        f"    if name not in names or names[name] is names.get({_GIVEN!r}, names):\n"
        "        raise NameError(f'the program defines no {name!r}')\n"
        "    return names[name](*args, **kwargs)\n"
    )
    program = _led_by(f"{_PREAMBLE}; {given}", Program(code)) or Program(code)
    return Program(program.text + adapter, program.num_lines_before), _ADAPTER


def _led_by(line: str, program: Program) -> Program | None:
    """With ``line`` before its first, or behind an import from ``__future__``, which must stay in front.

    None where it has such an import in a form that nothing can be put behind, with comments in brackets say.
    """
    ends = [future.end() for future in _PLAIN_FUTURE.finditer(program.text)]
    if ends:
        text = f"{program.text[: ends[-1]]}; {line}{program.text[ends[-1] :]}"
        return Program(text, program.num_lines_before)
    if _FUTURE.search(program.text):
        return None
    return Program(f"{line}\n{program.text}", program.num_lines_before + 1)


@cache
def _bridge() -> str:
    """One line that makes the bridge. Compiled here, for both sides run the same Python and compiling takes 10 ms."""
    folder = Path(__file__).parent
    codec, bridge = (
        b64encode(marshal.dumps(compile((folder / f"{name}.py").read_text(), f"<{name}>", "exec", optimize=2)))
        for name in ("sandbox_values", "code_bridge")
    )
    return (
        f"{BRIDGE} = (lambda load, read, run, codec, bridge: (run(load(read({codec!r})), codec), "
        f"run(load(read({bridge!r})), bridge), "
        "bridge['Bridge'](globals(), bridge['SimpleNamespace'](**codec)).answer)[2])"
        "(__import__('marshal').loads, __import__('binascii').a2b_base64, exec, {'__name__': 'codec'}, "
        "{'__name__': 'bridge'})"
    )


def _definition(name: str, code: str) -> int | None:
    """Where the last definition of ``name`` at the top level begins."""
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]*)?=(?!=))"
    starts = [match.start() for match in re.finditer(pattern, code, re.MULTILINE)]
    return starts[-1] if starts else None
