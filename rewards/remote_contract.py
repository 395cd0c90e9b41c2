"""SandboxFusion's contract, as our server speaks it: a request read, an outcome written."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.sandbox_program import Outcome, RunStatus, SandboxLimits

_MAX_RUN_S = 600.0
_MAX_OUTPUT = 16 << 20  # bytes
_MAX_MEMORY_MB = 64 << 10
_PYTHON = ("python", "python3")
_FILE_NAME = re.compile(r"[\w-][\w.-]{0,99}")
_FUTURE = re.compile(r"^from\s+__future__\s+import\b", re.MULTILINE)


class BadRequestError(ValueError):
    """The request is not one of the contract's; says what is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One request of the contract, read."""

    code: str
    stdin: str
    limits: SandboxLimits
    num_lines_before: int = 0  # of the code, that are not the sender's


def read_request(body: bytes) -> RunRequest:
    """The request as the contract has it; what it does not name takes the contract's defaults.

    Raises:
        BadRequestError: it is none.
    """
    try:
        read = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise BadRequestError("the body must be an object")
    code, stdin, language = read.get("code"), read.get("stdin") or "", read.get("language", "python")
    if not isinstance(code, str) or not isinstance(stdin, str):
        raise BadRequestError("code and stdin must be texts")
    if language not in _PYTHON:
        raise BadRequestError(f"language = {language!r}: this server runs python")
    if read.get("fetch_files"):
        raise BadRequestError("fetch_files: no file leaves the sandbox")
    try:
        limits = _limits(read)
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    first_line = _first_line(code, read.get("files") or {})
    return RunRequest(code=first_line + code, stdin=stdin, limits=limits, num_lines_before=first_line.count("\n"))


def _limits(read: Mapping[str, Any]) -> SandboxLimits:
    wall_s = _seconds(read, "run_timeout", 10.0)
    usual = SandboxLimits()
    return SandboxLimits(
        cpu_s=min(_seconds(read, "cpu_limit_s", wall_s), wall_s),
        wall_s=wall_s,
        memory_mb=_memory_mb(read, usual.memory_mb),
        output_bytes=_output_bytes(read, usual.output_bytes),
    )


def _seconds(read: Mapping[str, Any], name: str, default: float) -> float:
    value = read.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_RUN_S:
        raise ValueError(f"{name} = {value!r}: a number of seconds above 0, at most {_MAX_RUN_S:g}, is needed")
    return float(value)


def _memory_mb(read: Mapping[str, Any], default: int) -> int:
    value = read.get("memory_limit_MB")
    return default if value in (-1, None) else _whole("memory_limit_MB", value, _MAX_MEMORY_MB)


def _output_bytes(read: Mapping[str, Any], default: int) -> int:
    """Ours alone; what is asked for beyond the most is cut down to it."""
    value = read.get("output_limit_bytes")
    return min(default if value is None else _whole("output_limit_bytes", value, 1 << 62), _MAX_OUTPUT)


def _whole(name: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"{name} = {value!r}: a whole number above 0, at most {most}, is needed")
    return value


def _first_line(code: str, files: object) -> str:
    """What writes the files that a program asks for into its folder, before its own first line."""
    if not isinstance(files, dict):
        raise BadRequestError("files must be an object: names to contents in base64")
    if not files:
        return ""
    if _FUTURE.search(code):
        raise BadRequestError("files: not with a program that begins with an import from __future__")
    for name, content in files.items():
        if _FILE_NAME.fullmatch(name) is None:
            raise BadRequestError(f"files: {name[:100]!r} is no plain name of a file")
        try:
            base64.b64decode(content, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise BadRequestError(f"files: the content of {name!r} is no base64 ({error})") from error
    write = "open(name, 'wb').write(__import__('base64').b64decode(content))"
    return f"[{write} for name, content in {files!r}.items()]\n"


def write_reply(request: RunRequest, outcome: Outcome) -> dict[str, object]:
    """The reply as the contract has it; its member ``outcome`` is ours, for what the contract has no words for."""
    failed = outcome.status is RunStatus.SANDBOX_FAILURE
    finished = outcome.status is RunStatus.FINISHED
    run = {
        "status": "TimeLimitExceeded" if outcome.status is RunStatus.TIME_LIMIT else "Finished",
        "execution_time": outcome.wall_s,
        "return_code": 0 if finished else 1,
        "stdout": outcome.stdout,
        "stderr": outcome.error,
    }
    own = {name: getattr(outcome, name) for name in ("status", "error", "cpu_s", "peak_memory_mb")}
    line = outcome.line - request.num_lines_before if outcome.line is not None else None
    return {
        "status": "SandboxError" if failed else ("Success" if finished else "Failed"),
        "message": outcome.error if failed else "",
        "compile_result": None,
        "run_result": run,
        "executor_pod_name": None,
        "files": {},
        "outcome": {**own, "line": line if line and line > 0 else None},
    }
