"""From how a program ended to what is said of it."""

import json
import signal
from collections.abc import Mapping
from typing import Any

from rewards.sandbox_child import ERROR, VALUE
from rewards.sandbox_execution import Execution, Reply
from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits
from rewards.sandbox_values import ValueCodecError, decode

_MAX_ERROR = 500  # characters
_NEAR = 0.9  # a crash this near to its memory limit is taken for one that ran into it
_STARVED = 0.5  # share of its time that a program must have had to be told that it ran out of it
_LIMITS = {
    "cpu": (RunStatus.TIME_LIMIT, "more than {cpu_s:g} s of CPU time"),
    "wall": (RunStatus.TIME_LIMIT, "more than {wall_s:g} s of wall time"),
    "output": (RunStatus.OUTPUT_LIMIT, "more than {output_bytes} bytes of output"),
    "disk": (RunStatus.OUTPUT_LIMIT, "more than {disk_mb} MiB of files, or too many of them"),
    "reply": (RunStatus.RUNTIME_ERROR, "a reply that no call asked for"),
    "threads": (RunStatus.FORBIDDEN, "more than {threads} threads"),
}

Finding = tuple[RunStatus, str, int | None]  # status, error, line


def outcome_of_script(execution: Execution, limits: SandboxLimits) -> Outcome:
    """Of a script that has ended: finished where its exit status is 0 and it reported no exception."""
    reply = execution.wait_reply()
    finding = _ended(execution, limits) or (_reported(reply) if reply else None)
    exit_status = _ending(execution).get("exit", 0)
    if finding is None and exit_status:
        finding = RunStatus.RUNTIME_ERROR, f"exit status {exit_status}", None
    return _outcome(execution, finding or (RunStatus.FINISHED, "", None))


def outcome_of_call(execution: Execution, limits: SandboxLimits, number: int, reply: Reply | None) -> Outcome:
    """Of one call, whose program may live on."""
    if reply is not None and reply[0] == number and reply[1] == VALUE:
        try:
            return _outcome(execution, (RunStatus.FINISHED, "", None), decode(reply[2]))
        except ValueCodecError as error:
            return _outcome(execution, (RunStatus.RUNTIME_ERROR, f"the value returned: {error}", None))
    if reply is not None:
        return _outcome(execution, _reported(reply))
    exit_status = _ending(execution).get("exit", 0)
    left = RunStatus.RUNTIME_ERROR, f"the program exited (status {exit_status}) before the call returned", None
    return _outcome(execution, _ended(execution, limits) or left)


def failure(error: str) -> Outcome:
    return Outcome(status=RunStatus.SANDBOX_FAILURE, error=error)


def _ending(execution: Execution) -> Mapping[str, Any]:
    return execution.ending or {}


def _ended(execution: Execution, limits: SandboxLimits) -> Finding | None:
    """Why the program was ended from outside; None where it ended by itself."""
    ending = _ending(execution)
    if ending.get("failure"):
        return RunStatus.SANDBOX_FAILURE, ending["failure"], None
    if ending.get("forbidden"):
        return RunStatus.FORBIDDEN, f"system call {ending['forbidden']}", None
    limit = execution.limit or ending.get("limit", "")
    if limit == "wall" and _starved(ending, limits):
        return RunStatus.SANDBOX_FAILURE, "the machine is too busy: the program hardly ran", None
    if limit in _LIMITS:
        status, text = _LIMITS[limit]
        return status, text.format(**{name: getattr(limits, name) for name in limits.__slots__}), None
    return _killed(ending, limits) if ending.get("signal") else None


def _starved(ending: Mapping[str, Any], limits: SandboxLimits) -> bool:
    """Whether the machine kept a processor from the program for most of the time.

    A program's own threads can wait for each other only while they use CPU time: one that used little did not do it.
    """
    had_s = ending["wall_s"] - ending["waited_s"]
    return bool(had_s < _STARVED * limits.wall_s and ending["cpu_s"] < _STARVED * min(limits.wall_s, limits.cpu_s))


def _killed(ending: Mapping[str, Any], limits: SandboxLimits) -> Finding:
    by = ending["signal"]
    if by == signal.SIGXCPU or (by == signal.SIGKILL and ending["cpu_s"] >= limits.cpu_s):
        return RunStatus.TIME_LIMIT, f"more than {limits.cpu_s:g} s of CPU time", None
    if by == signal.SIGSYS:
        return RunStatus.FORBIDDEN, "a system call of another architecture", None
    if by == signal.SIGKILL:  # a program cannot send it, to itself neither: the host did, short of memory most likely
        return RunStatus.SANDBOX_FAILURE, "killed from outside the sandbox", None
    if by in (signal.SIGSEGV, signal.SIGABRT) and ending["peak_memory_mb"] >= _NEAR * limits.memory_mb:
        return RunStatus.MEMORY_LIMIT, f"more than {limits.memory_mb} MiB of memory", None
    return RunStatus.RUNTIME_ERROR, f"ended by signal {_signal_name(by)}", None


def _signal_name(number: int) -> str:
    """Its number for those that have no name: all but the first and the last of the real-time signals."""
    named = {int(known): known.name for known in signal.Signals}
    return named.get(number, str(number))


def _reported(reply: Reply) -> Finding:
    """The exception that the program reported, in a form that only its own harness, or a forger, writes."""
    number, kind, payload = reply
    try:
        report = json.loads(payload) if kind == ERROR else None
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict) or not isinstance(report.get("error"), str):
        return RunStatus.RUNTIME_ERROR, f"a reply that no call asked for ({number})", None
    line = report.get("line")
    error = " ".join(report["error"].split())[:_MAX_ERROR]
    status = RunStatus.MEMORY_LIMIT if error.partition(":")[0] == "MemoryError" else RunStatus.RUNTIME_ERROR
    return status, error, line if type(line) is int else None


def _outcome(execution: Execution, finding: Finding, value: object = None) -> Outcome:
    status, error, line = finding
    cpu_s, wall_s, peak_memory_mb = execution.usage()
    return Outcome(
        status=status,
        stdout=execution.take_stdout(),
        value=value,
        error=error,
        line=line,
        cpu_s=cpu_s,
        wall_s=wall_s,
        peak_memory_mb=peak_memory_mb,
    )
