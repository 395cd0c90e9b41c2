"""What a program raised, raised again in the tests: as the builtin exception where it is one, for a test may expect it.

A class of the program's own comes back as one of the same name, whose bases are the builtin ones that it has and those
that the tests name in an ``except``. ``StopIteration`` is never among them: raised in the middle of a test's ``map`` or
generator it would end it in silence, as if there were nothing more to check.
"""

import builtins
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

_SILENT = ("StopIteration", "StopAsyncIteration", "GeneratorExit")


class CandidateError(Exception):
    """The program raised something. ``class_names``: its class and those that it derives from, there."""

    class_names: tuple[str, ...] = ()

    def __init__(self, *args: object, text: str = "", itself: object = None) -> None:
        self.args = args
        self._text = text
        self._itself = itself

    def __str__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._itself is None:
            raise AttributeError(name)
        return getattr(self._itself, name)


def rebuilt(
    names: Sequence[str], args: Sequence[object], text: str, itself: object, own: Mapping[str, type]
) -> Exception:
    """The exception whose classes bear ``names``, the most derived first.

    Args:
        names: of its classes.
        args: what it was made of.
        text: what ``str`` makes of it.
        itself: what its further attributes are asked of.
        own: the classes that the tests know by name.

    >>> rebuilt(["ValueError", "Exception"], ["no"], "no", None, {})
    ValueError('no')
    >>> isinstance(rebuilt(["Stop", "StopIteration"], [], "", None, {}), StopIteration)
    False
    """
    bases = [base for name in names if (base := own.get(name) or _builtin(name)) is not None]
    if bases and bases[0] is _builtin(names[0]) and issubclass(bases[0], Exception):
        with suppress(
            TypeError, ValueError
        ):  # UnicodeDecodeError and the like are made of more than a program may give
            return bases[0](*args)
    return _derived(names, bases)(*args, text=text, itself=itself)


def _derived(names: Sequence[str], bases: list[type]) -> type[CandidateError]:
    """A class of the first name, on those of the bases that no other has for its own."""
    bases = [base for base in bases if not any(other is not base and issubclass(other, base) for other in bases)]
    own = [base for base in bases if issubclass(base, CandidateError)] or [CandidateError]
    name, members = (names or ["CandidateError"])[0], {"class_names": tuple(names)}
    try:
        return type(name, (*own, *(base for base in bases if base not in own)), members)
    except TypeError:  # layouts that do not go together, OSError's and SystemExit's say
        return type(name, tuple(own), members)


def _builtin(name: str) -> type[BaseException] | None:
    kind = getattr(builtins, name, None)
    if name in _SILENT or not isinstance(kind, type) or not issubclass(kind, BaseException):
        return None
    return kind
