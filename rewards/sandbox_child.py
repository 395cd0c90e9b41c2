"""Runs the program in its confined process. Nothing here is trusted: the program may rewrite all of it.

Replies are frames: length of the payload, id of the call, kind, payload. Calls come as frames of length and JSON.
"""

import _io
import atexit
import contextlib
import gc
import io
import json
import os
import struct
import sys
import threading
import types
from typing import Any, Literal, cast

from rewards.sandbox_confine import CALLS_FD, PROGRAM_FD, REPLIES_FD, STDIN_FD, STDOUT_FD
from rewards.sandbox_stack import grant_stacks
from rewards.sandbox_values import decode, encode

FILE_NAME = "<program>"
LENGTH = struct.Struct(">I")
REPLY = struct.Struct(">IIc")  # payload's length, call's id, kind
VALUE, ERROR = b"v", b"e"
_MAX_MESSAGE = 400  # characters of an exception's text


def run_program() -> int:
    """Run what the program's descriptor holds, to its end; returns the exit status."""
    job = _read_job()
    _open_streams()
    sys.argv[:] = sys.orig_argv[:] = [FILE_NAME]
    sys.set_int_max_str_digits(0)  # time is bounded anyway, and judges have no such limit
    grant_stacks()
    return _finish(_run_script(job["code"]) if job["script"] else _run_calls(job["code"]))


def _run_script(code: str) -> int:
    try:
        _define(code, _new_module("__main__"))
    except SystemExit as request:
        return _exit_status(request.code)
    except BaseException as error:  # noqa: BLE001 - a program may raise anything
        _reply(0, ERROR, _describe(error))
        return 1
    return 0


def _run_calls(code: str) -> int:
    module = _new_module("program")
    try:
        _define(code, module)
    except BaseException as error:  # noqa: BLE001
        _flush()
        _reply(0, ERROR, _describe(error))
        return 1
    while (call := _next_call()) is not None:
        _answer(call, module)
    return 0


def _new_module(name: str) -> types.ModuleType:
    module = sys.modules[name] = types.ModuleType(name)
    module.__file__ = os.path.abspath(FILE_NAME)
    return module


def _answer(call: dict[str, Any], module: types.ModuleType) -> None:
    kind, payload = VALUE, b""
    try:
        arguments, keywords = cast(tuple[list[Any], dict[str, Any]], decode(call["arguments"].encode()))
        payload = encode(_find(call["function"], module)(*arguments, **keywords))
    except BaseException as error:  # noqa: BLE001
        kind, payload = ERROR, _describe(error)
    _flush()
    _reply(call["id"], kind, payload)


def _define(code: str, module: types.ModuleType) -> None:
    sys.modules["linecache"].cache[FILE_NAME] = (len(code), None, code.splitlines(keepends=True), FILE_NAME)
    exec(compile(code, FILE_NAME, "exec", dont_inherit=True), module.__dict__)


def _find(name: str, module: types.ModuleType) -> Any:
    """``f`` or, with a class that needs no arguments, ``Solution.f``."""
    first, *rest = name.split(".")
    if first not in module.__dict__:
        raise NameError(f"the program defines no {first!r}")
    found = module.__dict__[first]
    for part in rest:
        found = getattr(found() if isinstance(found, type) else found, part)
    return found


def _describe(error: BaseException) -> bytes:
    try:
        text = " ".join(str(error).split())[:_MAX_MESSAGE]
    except BaseException:  # noqa: BLE001
        text = "(its text cannot be had)"
    name = type(error).__name__
    return json.dumps({"error": f"{name}: {text}" if text else name, "line": _line_of(error)}).encode("ascii")


def _line_of(error: BaseException) -> int | None:
    """The innermost line of the program itself."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == FILE_NAME else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _finish(status: int) -> int:
    """What the interpreter does at a program's end, but for tearing itself down."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _flush()
        _let_go()
        _flush()  # of what the last finalizers printed
    except BaseException as error:  # noqa: BLE001
        _reply(0, ERROR, _describe(error))
        return 1
    return status


def _flush() -> None:
    """A program's own stream may lack either attribute."""
    for stream in (getattr(sys, "stdout", None), sys.__stdout__):
        flush = getattr(stream, "flush", None)
        if flush is not None and not getattr(stream, "closed", False):
            flush()


def _let_go() -> None:
    """Finalize what a script leaves behind: a file writes what it still holds when it is closed.

    What something else keeps alive, such as a class in a cache of ``typing`` with all of its module, is not finalized;
    its files are flushed. Looked at by type, because an object may lie about its class.
    """
    gc.collect()  # as the interpreter does first: it sorts, so that a stream comes before the one beneath it
    sys.modules.pop("__main__", None)
    gc.collect()
    for found in gc.get_objects():
        if issubclass(type(found), _io._IOBase):
            with contextlib.suppress(BaseException):  # closed, or broken by the program
                found.flush()


def _open_streams() -> None:
    sys.stdin = sys.__stdin__ = _text_stream(STDIN_FD, "r")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _text_stream(STDOUT_FD, "w")  # type: ignore[misc]


def _text_stream(descriptor: int, mode: Literal["r", "w"]) -> io.TextIOWrapper:
    return open(descriptor, mode, encoding="utf-8", errors="surrogateescape", closefd=False)


def _read_job() -> dict[str, Any]:
    with open(PROGRAM_FD, "rb") as file:
        job: dict[str, Any] = json.load(file)
    return job


def _next_call() -> dict[str, Any] | None:
    header = _read_exactly(LENGTH.size)
    if header is None:
        return None
    body = _read_exactly(LENGTH.unpack(header)[0])
    return None if body is None else json.loads(body)


def _read_exactly(size: int) -> bytes | None:
    received = b""
    while len(received) < size:
        chunk = os.read(CALLS_FD, size - len(received))
        if not chunk:
            return None
        received += chunk
    return received


def _reply(call: int, kind: bytes, payload: bytes) -> None:
    view = memoryview(REPLY.pack(len(payload), call, kind) + payload)
    while view:
        view = view[os.write(REPLIES_FD, view) :]
