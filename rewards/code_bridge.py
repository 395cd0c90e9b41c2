"""What answers inside the sandbox: one request of the tests at a time, asked of the program's functions and objects.

Its compiled text is put before the program (``rewards.code_program``), with that of ``rewards.sandbox_values``, whose
names it gets as ``codec``: nothing of the package is there to be imported. Nothing here is trusted: a program may
rewrite all of it, and can send no more by that than any text, which the tests' side reads as a hostile one.
"""

import operator
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

_MAX_TEXT = 1000  # characters of an exception's text
_KEPT_OPERATORS = (
    *("lt", "le", "gt", "ge", "contains", "getitem", "setitem", "delitem", "index", "neg", "pos", "invert"),
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift"),
)


class Bridge:
    """One program's side of the conversation.

    A request is an operation, its arguments and its keywords. A reply: ``returned`` and the value; ``method``, which is
    called by its name; ``raised`` and the exception; ``lost`` where the value cannot cross. Then which of the
    containers among the arguments have changed, and to what.
    """

    def __init__(self, program: dict[str, Any], codec: SimpleNamespace) -> None:
        self._program = program
        self._codec = codec
        self._objects: list[object] = []  # that the tests hold, by number
        self._numbers: dict[int, int] = {}  # of them by identity; below 0: of this call's arguments
        self._pending: dict[int, BaseException] = {}  # raised by an iterator behind items that were still to be sent

    def answer(self, request: str) -> str:
        arguments: list[Any] = []
        before: list[list[Any]] = []
        try:
            operation, args, kwargs = self._codec.decode(request.encode("ascii"), self._resolve)
            arguments = self._codec.mutable_parts([args, kwargs])
            before = [_contents(part) for part in arguments]
            reply = self._perform(operation, args, kwargs)
        except MemoryError:  # the harness knows it as a limit
            raise
        except BaseException as error:  # noqa: BLE001 - a program may raise anything
            reply = ["raised", self._described(error)]
        known = {id(part): -1 - number for number, part in enumerate(arguments)}
        self._numbers |= known
        try:
            changes = [
                [number, _copy(part)]
                for number, (part, contents) in enumerate(zip(arguments, before, strict=False))
                if not _is_unchanged(_contents(part), contents)
            ]
            return self._written([*reply, changes])
        finally:
            for identity in known:
                del self._numbers[identity]

    def _perform(self, operation: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
        if operation == "read":  # by name: no argument of the tests', whose changes they would be told
            return ["returned", self._resolve(args[0])]
        if operation == "next":
            return ["returned", self._take(*args)]
        value = _OPERATIONS[operation](*args, **kwargs)
        if operation == "getattr" and callable(value) and getattr(value, "__self__", None) is args[0]:
            return ["method", args[1]]
        return ["returned", value]

    def _take(self, iterator: Iterator[Any], number: int) -> tuple[list[Any], bool]:
        """The next items, and whether there are no more."""
        if id(iterator) in self._pending:
            raise self._pending.pop(id(iterator))
        items: list[Any] = []
        try:
            items += islice(iterator, 1)
            while items and len(items) < number:
                items.append(next(iterator))
        except StopIteration:
            return items, True
        except Exception as error:  # noqa: BLE001
            if not items:
                raise
            self._pending[id(iterator)] = error
        return items, not items

    def _written(self, reply: list[Any]) -> str:
        try:
            return str(self._codec.encode(reply, self._refer).decode("ascii"))
        except (ValueError, RecursionError) as error:
            return str(self._codec.encode(["lost", str(error), []]).decode("ascii"))

    def _described(self, error: BaseException) -> list[Any]:
        """Names of its classes, what it was made of, its text, and itself."""
        try:
            text = str(error)[:_MAX_TEXT]
        except BaseException:  # noqa: BLE001
            text = "(its text cannot be had)"
        return [[kind.__name__ for kind in type(error).__mro__], list(error.args), text, error]

    def _refer(self, value: object) -> object:
        number = self._numbers.get(id(value))
        if number is not None and number < 0:
            return number
        if number is None and self._codec.crosses(value):
            return None
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)  # and so its identity stays its own
        own = type(value)
        return [number, own.__name__, callable(value), isinstance(value, Iterator), own.__eq__ is not object.__eq__]

    def _resolve(self, reference: int | str | list[Any]) -> object:
        if isinstance(reference, list):
            owner, name = reference
            return getattr(self._resolve(owner), name)
        if isinstance(reference, int):
            return self._objects[reference]
        if reference not in self._program:
            raise NameError(f"name {reference!r} is not defined")
        return self._program[reference]


def _call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _call_method(target: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
    return getattr(target, name)(*args, **kwargs)


def _contents(part: Any) -> list[Any]:
    return [item for pair in part.items() for item in pair] if isinstance(part, dict) else list(part)


def _copy(part: Any) -> Any:
    for kind in (dict, set):
        if isinstance(part, kind):
            return kind(part)
    return list(part)


def _is_unchanged(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


_OPERATIONS: dict[str, Any] = {
    "call": _call,
    "call_method": _call_method,
    **{kind.__name__: kind for kind in (bool, str, int, float)},
    **{known.__name__: known for known in (getattr, setattr, delattr, isinstance, len, repr, format, abs, round, iter)},
    **{name: getattr(operator, name) for name in _KEPT_OPERATORS},
}
