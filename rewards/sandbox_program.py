"""What goes into a sandbox and what comes out: limits, status, outcome.

>>> SandboxLimits(cpu_s=1.0, memory_mb=256).wall_s
15.0
>>> Outcome(status=RunStatus.RUNTIME_ERROR, error="ZeroDivisionError: division by zero", line=2).status.value
'runtime_error'
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

_DAY_S = 86_400.0
_MOST = {
    "cpu_s": _DAY_S,
    "wall_s": _DAY_S,
    "memory_mb": 1 << 20,
    "output_bytes": 1 << 30,
    "disk_mb": 1 << 20,
    "threads": 1 << 15,
}


class SandboxUnavailableError(RuntimeError):
    """This machine cannot confine a program (tier 3): says what is missing and how to get it."""


class RunStatus(StrEnum):
    """How a run ended. None of them says that an answer is right: the trusted side compares."""

    FINISHED = "finished"  # ran to its end; a script: exit status 0; a call: the function returned a value
    RUNTIME_ERROR = "runtime_error"  # raised, exited, crashed, or returned what cannot cross
    TIME_LIMIT = "time_limit"  # CPU or wall
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"  # printed or returned more than `output_bytes`
    FORBIDDEN = "forbidden"  # died of a call that the sandbox refuses; `error` names it
    SANDBOX_FAILURE = "sandbox_failure"  # the sandbox itself failed: unscored, says nothing about the program


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Limits of one run, or of one whole session.

    Raises ValueError for a limit that is not a positive number, or larger than the kernel could be asked for.
    """

    cpu_s: float = 5.0  # CPU time of all of the program's threads together
    wall_s: float = 15.0  # a session's counts only while a call runs
    memory_mb: int = 512  # address space beyond what the bare interpreter maps
    output_bytes: int = 1 << 20  # standard output, and also each returned value (standard error goes nowhere)
    disk_mb: int = 16  # all files together
    threads: int = 16  # Python's main thread included

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.name not in ("cpu_s", "wall_s")
            kinds = (int,) if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= _MOST[field.name]:
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{field.name}: got {value!r}; allowed: {kind} above 0, at most {_MOST[field.name]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one execution did, as the trusted side saw it.

    `value` is built of exact builtin types only (never a subclass, whose `__eq__` could lie).
    """

    status: RunStatus
    stdout: str = ""  # at most `output_bytes`, decoded as UTF-8 with replacement
    value: object | None = None  # what the call returned; None also where nothing was returned
    error: str = ""  # one line: exception type and message, or which limit or system call
    line: int | None = None  # the line of the program where the error rose
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_memory_mb: float = 0.0  # the highest resident size of the program's process
