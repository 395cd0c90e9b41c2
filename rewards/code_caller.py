"""The tests' end of the conversation with the program: a request for each use of it, and a reply that is not believed.

What comes back is read as a hostile text (``rewards.sandbox_values``), and becomes values of exact types, handles of
objects, changes of the arguments, or an exception.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from functools import partial
from typing import Any

from rewards.code_handle import Handle, Kind, Method, StandIn, Stream, kind_of, reference_of
from rewards.code_raised import CandidateError, rebuilt
from rewards.code_value import shown
from rewards.sandbox_values import TooDeepError, ValueCodecError, decode, encode, mutable_parts

_LONGEST_RANGE = 10_000_000  # numbers: longer than any list that could be sent
_MAX_REQUEST = 64 << 20  # characters
_MAX_SHOWN = 300

Exchange = Callable[[str], str]  # sends a request to the program, returns its reply


class EndedError(BaseException):
    """The program is over, or a call cannot be made: no ``except Exception`` of a test may go on from here."""


class Caller:
    """Asks the program, by way of ``exchange``.

    Attributes:
        num_calls: how often; to learn that a name means a function does not count.
        problem: of the tests, not of the program; empty where there is none.
        doubts: why a right program might have failed too.
        is_describing: while a value is shown to people; the program is not asked how.
    """

    def __init__(
        self, exchange: Exchange, names: Iterable[str], classes: Collection[str], errors: Iterable[str]
    ) -> None:
        """``names``: of the program's that the tests use; among them ``classes``, and ``errors`` that they catch."""
        self._exchange = exchange
        self._handles: dict[int, Handle] = {}
        self._errors: dict[str, type] = {name: type(name, (CandidateError,), {}) for name in errors}
        self._stand_ins = {name: StandIn(self, name, is_class=name in classes) for name in names}
        self._last: tuple[str, object] | str = ""
        self.num_calls = 0
        self.problem = ""
        self.doubts: list[str] = []
        self.is_describing = False

    @property
    def names(self) -> dict[str, object]:
        """What the tests find under the program's names."""
        return {**self._stand_ins, **self._errors}

    def read(self, name: str) -> Any:
        """What a name means that is not called at once: a function, or a value as it is now."""
        found = self.ask("read", name, label=name)
        if not isinstance(found, Handle) or not kind_of(found).is_callable:
            return found
        self.num_calls -= 1
        return self._stand_ins[name]

    def ask(self, operation: str, *args: Any, label: str = "", keywords: Mapping[str, Any] | None = None) -> Any:
        """Have the program do one operation of ``rewards.code_bridge``, and return what it returns.

        Raises:
            EndedError: the program has ended, or what it is to be given does not cross.
            Exception: what the program raised.
        """
        given = [list(args), dict(keywords or {})]
        request = self._written([operation, *given], label)
        self.num_calls += 1
        try:
            kind, content = self._read(self._exchange(request), mutable_parts(given))
        except ValueCodecError as error:
            self._last = f"{label} returned {error}"
            raise CandidateError(text=str(error)) from None
        if kind == "lost":
            self._last = f"{label} returned {content}"
            self.doubts.append(self._last)
            raise CandidateError(text=str(content))
        if kind == "raised":
            self._last = f"{label} raised {type(content).__name__}: {content}"[:_MAX_SHOWN]
            raise content
        if kind == "method":
            return Method(self, args[0], content)
        self._last = (label, content)
        return content

    def doubt(self, reason: str) -> None:
        self.doubts.append(reason)

    def cannot_compare(self, reason: str) -> None:
        self.problem = reason
        raise EndedError

    def last(self) -> str:
        """What came of the last call."""
        if isinstance(self._last, str):
            return self._last
        label, value = self._last
        self.is_describing = True
        try:
            return f"{label} returned {shown(value)}"
        finally:
            self.is_describing = False

    def _written(self, request: list[Any], label: str) -> str:
        """A value that the program made may be too much to send back: that is its own doing."""
        try:
            text = encode(request, reference_of).decode("ascii")
        except TooDeepError as error:
            why = str(error)
        except ValueCodecError as error:
            self.problem = f"what the tests give {label} does not cross into a sandbox: {error}"
            raise EndedError from None
        else:
            if len(text) <= _MAX_REQUEST:
                return text
            why = f"longer than {_MAX_REQUEST} characters"
        if self.num_calls:
            raise CandidateError(text=f"what {label} is given is {why}")
        self.problem = f"what the tests give {label} is {why}"
        raise EndedError

    def _read(self, text: str, arguments: list[Any]) -> tuple[str, Any]:
        """Raises ValueCodecError where the reply is none of the bridge's."""
        resolve = partial(self._resolve, arguments)
        kind: Any
        match decode(text.encode("ascii", "replace"), resolve, longest_range=_LONGEST_RANGE):
            case ["raised" as kind, [list(names), list(args), str(shown_as), itself], list(changes)] if _are_texts(
                names
            ):
                content: Any = rebuilt(names, args, shown_as, itself, self._errors)
            case ["lost" | "method" as kind, str(content), list(changes)] | [
                "returned" as kind,
                content,
                list(changes),
            ]:
                pass
            case _:
                raise ValueCodecError("a reply in no known form")
        for change in changes:
            _apply(change, arguments)
        return kind, content

    def _resolve(self, arguments: list[Any], reference: Any) -> object:
        match reference:
            case int(number) if number < 0:
                return arguments[-1 - number]
            case [int(number), str(class_name), bool(), bool(), bool()]:
                if number not in self._handles:
                    kind = Kind(class_name, *reference[2:])
                    self._handles[number] = (Stream if kind.is_iterator else Handle)(self, number, kind)
                return self._handles[number]
        raise ValueCodecError("a reference in no known form")


def _are_texts(names: list[Any]) -> bool:
    return all(isinstance(name, str) for name in names)


def _apply(change: Any, arguments: list[Any]) -> None:
    """Change one of the arguments in place, as the program did with its copy."""
    match change:
        case [int(number), dict() | set() | list()] if 0 <= number < len(arguments):
            part, content = arguments[number], copy(change[1])  # which may be the argument itself
        case _:
            raise ValueCodecError("a change in no known form")
    match part, content:
        case dict(), dict():
            part.clear()
            for key, value in content.items():  # as ``update`` of a Counter would not
                part[key] = value
        case set(), set():
            part.clear()
            part.update(content)
        case bytearray(), list():
            part[:] = _bytes(content)
        case list() | deque(), list():
            part.clear()
            part.extend(content)
        case _:
            raise ValueCodecError("a change to another type")


def _bytes(content: list[Any]) -> bytes:
    try:
        return bytes(content)
    except (TypeError, ValueError) as error:
        raise ValueCodecError(f"a change to no bytes: {error}") from None
