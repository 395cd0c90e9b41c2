"""Rows from somebody's own Python function: ``FILE.py:FUNCTION`` or ``package.module:FUNCTION``.

    # my_data.py
    def sums(count=100):
        for i in range(count):
            yield {"question": f"What is {i} + 1?", "answer": str(i + 1)}

It runs in the trainer's own process, once, when the data is loaded. What it prints goes to standard error.
"""

import contextlib
import hashlib
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from grpo.errors import DataError, did_you_mean, did_you_mean_file
from rewards.user_module import load_file, load_module

Row = Mapping[str, object]
_END = object()


def is_function(path: str) -> bool:
    """Whether a source's ``path`` names a function.

    >>> is_function("my_data.py:sums"), is_function("package.module:rows"), is_function("owner/name")
    (True, True, False)
    """
    place, colon, name = path.rpartition(":")
    return bool(colon) and name.isidentifier() and (place.endswith(".py") or place.replace(".", "").isidentifier())


def check_file(path: str, *, key: str) -> None:
    """Refuse ``FILE.py:FUNCTION`` without that file; nothing is run.

    Raises:
        DataError: there is no such file.
    """
    file = Path(path.rpartition(":")[0]).expanduser()
    if file.suffix == ".py" and not file.is_file():
        raise DataError(f"{key}.path = {path!r}: there is no file {str(file)!r}. {did_you_mean_file(file, '*.py')}")


class RowFunction:
    """The function that ``path`` names, ready to be called.

    Raises:
        DataError: there is no such file, module or function, importing it raised, or it does not take ``args``.
    """

    def __init__(self, path: str, args: Mapping[str, object], *, key: str) -> None:
        self._where = f"{key}.path = {path!r}"
        place, _, self.name = path.rpartition(":")
        check_file(path, key=key)
        with contextlib.redirect_stdout(sys.stderr):
            self._module = self._import_file(Path(place)) if place.endswith(".py") else self._import_module(place)
        self._function = self._find()
        self._args = dict(args)
        self._check_args(key)

    @property
    def source_sha256(self) -> str | None:
        """SHA-256 of the text of the file that defines it; None where there is no such text."""
        file = self._module.__file__
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file is not None else None

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """Call it and go through what it returns or yields, ``limit`` rows at most.

        Raises:
            DataError: it raised, or gave something else than rows; the message has file and line.
        """
        returned = self._guarded(lambda: self._function(**self._args))
        if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | Mapping):
            raise DataError(
                f"{self._where}: {self.name} returned a value of type {type(returned).__name__}, not rows. "
                "Return a list of mappings of column names to values, or yield them"
            )
        rows = iter(returned)
        for number in itertools.count() if limit is None else range(limit):
            row = self._guarded(lambda: next(rows, _END))
            if row is _END:
                return
            if not isinstance(row, Mapping):
                raise DataError(
                    f"{self._where}: its row {number} is of type {type(row).__name__}, not a mapping. "
                    "Each row must map column names to values"
                )
            yield row

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return call()
        except (Exception, SystemExit) as error:  # whatever it raises is its author's to mend
            raise self._error("it", error, self._module.__file__) from error

    def _import_file(self, path: Path) -> ModuleType:
        path = path.expanduser().resolve()
        try:
            return load_file(path, prefix="data_file_")
        except (Exception, SystemExit) as error:
            raise self._error("importing it", error, str(path)) from error

    def _import_module(self, name: str) -> ModuleType:
        try:
            return load_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise self._error("importing it", error, None) from error
            raise DataError(
                f"{self._where}: there is no module {error.name!r}, neither in the working folder nor installed. "
                "Name one that there is, or a file, as in my_data.py:rows"
            ) from None
        except (Exception, SystemExit) as error:
            raise self._error("importing it", error, None) from error

    def _error(self, what: str, error: BaseException, file: str | None) -> DataError:
        message = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {message[0].rstrip('.')}" if message else type(error).__name__
        return DataError(f"{self._where}: {what} raised {said} ({_place_of(error, file)}). Mend the function")

    def _find(self) -> Callable[..., Any]:
        found = getattr(self._module, self.name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
        functions = [name for name, value in vars(self._module).items() if inspect.isfunction(value)]
        hint = did_you_mean(self.name, functions, f"It has {', '.join(functions) or 'none'}.")
        raise DataError(f"{self._where}: there is no function '{self.name}'. {hint}")

    def _check_args(self, key: str) -> None:
        try:
            signature = inspect.signature(self._function)
        except ValueError:
            return  # some functions written in C do not say
        try:
            signature.bind(**self._args)
        except TypeError as error:
            raise DataError(
                f"{key}.args = {self._args!r}: {self.name}{signature} cannot be called with them: "
                f"{error}. Mend {key}.args"
            ) from None


def _place_of(error: BaseException, file: str | None) -> str:
    """The innermost line of ``file``, as in ``my_data.py, line 7``; of any file where it did not come to that one."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    innermost = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    return f"{innermost.filename}, line {innermost.lineno}"
