"""What the tests hold in place of the program's functions and objects: each use is a question to the sandbox.

An object of the program's own may stand where the tests expect a value. It must not answer for one: it equals nothing
but itself, is in no order, holds nothing, counts for no number, and has no method that a value has (``startswith``,
``index``), for any of these could say what pleases, and would learn what is expected. Only an object that the tests
themselves ask for, by calling a class or by using a name that no value has, answers as its class defines; and its
``==`` is still no more than identity.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

_FIRST_SINGLE = 16  # items of an iterator that are fetched one by one; then an eighth of those before at a time
_UNARY = ("neg", "pos", "invert", "abs", "round", "int", "float", "index")
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
_ORDERS = ("lt", "le", "gt", "ge")
# Names that mean something of a value. An object that answers to one in a value's place could say what it likes.
VALUE_ATTRIBUTES = frozenset(
    name
    for kind in (
        *(bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range),
        *(deque, Counter, OrderedDict, Decimal, Fraction, date, datetime, time, timedelta),
    )
    for name in dir(kind)
    if not name.startswith("_")
)
_ITEMS = ("getitem", "setitem", "delitem")


class Asker(Protocol):
    """Asks the program (``rewards.code_caller``)."""

    is_describing: bool

    def ask(self, operation: str, *args: Any, label: str = "", keywords: dict[str, Any] | None = None) -> Any: ...

    def doubt(self, reason: str) -> None:
        """Note something for which a right program might fail too."""

    def cannot_compare(self, reason: str) -> None:
        """Note that the tests leave to the program what no program may decide."""


class RefusedError(TypeError):
    """An object of the program's own was used as only a value, or an object that the tests asked for, can be."""


class StandIn:
    """A name of the program's: a function, or a class."""

    def __init__(self, asker: Asker, name: str, *, is_class: bool) -> None:
        self._asker = asker
        self._is_class = is_class
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = self._asker.ask("call", self, *args, label=self.__name__, keywords=kwargs)
        if self._is_class and isinstance(made, Handle):
            trust(made)
        return made

    def __getattr__(self, name: str) -> Any:
        return _attribute(self._asker, self, name)

    def __instancecheck__(self, instance: object) -> bool:
        if isinstance(instance, Handle):
            return self._asker.ask("isinstance", instance, self, label="isinstance") is True
        return self.__name__ in getattr(type(instance), "class_names", ())


class Method:
    """A method of an object, or a function of a class."""

    def __init__(self, asker: Asker, owner: object, name: str) -> None:
        self._asker = asker
        self._owner = owner
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._asker.ask("call_method", self._owner, self.__name__, *args, label=self.__name__, keywords=kwargs)


class Kind(NamedTuple):
    """What the program says of an object. None of it can make a test pass."""

    class_name: str
    is_callable: bool = False
    is_iterator: bool = False
    has_own_equality: bool = False


class Handle:
    """One object of the program's own."""

    _asker: Asker
    _number: int  # of the object, on its side
    _kind: Kind
    _is_asked_for: bool

    def __init__(self, asker: Asker, number: int, kind: Kind) -> None:
        self.__dict__.update(_asker=asker, _number=number, _kind=kind, _is_asked_for=False)

    def __getattr__(self, name: str) -> Any:
        found = _attribute(self._asker, self, name)
        if name not in VALUE_ATTRIBUTES:
            trust(self)
        elif isinstance(found, Method | Handle) and not self._is_asked_for:
            raise self._refusal(f".{name}")
        return found

    def __setattr__(self, name: str, value: object) -> None:
        self._asker.ask("setattr", self, name, value, label=name)

    def __delattr__(self, name: str) -> None:
        self._asker.ask("delattr", self, name, label=name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._asker.ask("call", self, *args, label=self._kind.class_name, keywords=kwargs)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        self._asker.doubt(f"an object of the program's own class {self._kind.class_name} was compared")
        if not isinstance(other, Handle):
            return False
        if (self._kind.has_own_equality or other._kind.has_own_equality) and (
            self._is_asked_for or other._is_asked_for
        ):
            self._asker.cannot_compare(f"the tests compare objects of the program's own class {self._kind.class_name}")
        return False

    def __hash__(self) -> int:
        return hash(self._number)

    def __bool__(self) -> bool:
        return not self._is_asked_for or bool(self._do("bool"))

    def __len__(self) -> int:
        return int(_exact(int, self._do("len")))

    def __iter__(self) -> Iterator[Any]:
        found = self._do("iter")
        if not isinstance(found, Stream):
            raise TypeError(f"iter() returned {type(found).__name__}")
        return found

    def __contains__(self, item: object) -> bool:
        return bool(self._do("contains", item))

    def __repr__(self) -> str:
        if not self._is_asked_for or self._asker.is_describing:
            return f"<{self._kind.class_name} of the program>"
        return str(_exact(str, self._do("repr")))

    def __str__(self) -> str:
        return str(_exact(str, self._do("str"))) if self._is_asked_for else repr(self)

    def __format__(self, form: str) -> str:
        return str(_exact(str, self._do("format", form))) if self._is_asked_for else format(repr(self), form)

    def __enter__(self) -> Any:
        return Method(self._asker, self, "__enter__")()

    def __exit__(self, *error: object) -> None:
        Method(self._asker, self, "__exit__")(None, None, None)

    def _do(self, operation: str, *args: Any) -> Any:
        if not self._is_asked_for:
            raise self._refusal(operation)
        return self._asker.ask(operation, self, *args, label=operation)

    def _do_reversed(self, operation: str, other: Any) -> Any:
        if not self._is_asked_for:
            raise self._refusal(operation)
        return self._asker.ask(operation, other, self, label=operation)

    def _refusal(self, operation: str) -> RefusedError:
        self._asker.doubt(f"an object of the program's own class {self._kind.class_name} was asked for {operation}")
        return RefusedError(
            f"{self._kind.class_name} is a class of the program's own: {operation} is asked of values only"
        )


class Stream(Handle):
    """An iterator of the program's: each item once, in order, and nothing more once it has ended."""

    def __init__(self, asker: Asker, number: int, kind: Kind) -> None:
        super().__init__(asker, number, kind)
        self.__dict__.update(_fetched=[], _num_taken=0, _has_ended=False)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        state = self.__dict__
        if not state["_fetched"] and not state["_has_ended"]:
            number = max(1, (state["_num_taken"] - _FIRST_SINGLE) // 8)
            items, state["_has_ended"] = self._asker.ask("next", self, number, label="next")
            state["_fetched"] = list(items)[::-1]
            state["_num_taken"] += len(items)
        if not state["_fetched"]:
            raise StopIteration
        return state["_fetched"].pop()


def reference_of(value: object) -> object:
    """What stands for an object of the program's in a request; None for anything else.

    A function, as those that follow: attributes are the object's own.
    """
    if isinstance(value, StandIn):
        return value.__name__
    if isinstance(value, Method):
        return [reference_of(value._owner), value.__name__]
    return value._number if isinstance(value, Handle) else None


def kind_of(handle: Handle) -> Kind:
    return handle._kind


def trust(handle: Handle) -> None:
    """The tests asked for an object here, not for a value."""
    handle.__dict__["_is_asked_for"] = True


def _attribute(asker: Asker, owner: Any, name: str) -> Any:
    if name.startswith("__"):  # Python's own, which this side's objects have by their classes or not at all
        raise AttributeError(name)
    return asker.ask("getattr", owner, name, label=name)


def _exact(kind: type, value: object) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} is needed, not {type(value).__name__}")
    return value


def _special(operation: str) -> Callable[..., Any]:
    def special(self: Handle, *args: Any) -> Any:
        return self._do(operation, *args)

    return special


def _reversed_special(operation: str) -> Callable[..., Any]:
    def special(self: Handle, other: Any) -> Any:
        return self._do_reversed(operation, other)

    return special


for _name in (*_UNARY, *_BINARY, *_ORDERS, *_ITEMS):
    _operation = f"{_name}_" if _name in ("and", "or") else _name
    setattr(Handle, f"__{_name}__", _special(_operation))
    if _name in _BINARY:
        setattr(Handle, f"__r{_name}__", _reversed_special(_operation))
