"""Python values as JSON that keeps their types, for the border of the sandbox: both sides speak it.

What comes back is built anew of exact types of the standard library (and ``Record``, for named tuples). A subclass is
reduced to the value that it holds, read by the known type's own methods, so nothing that a program overrides has a say.
Other objects cross only where the two sides agree on numbers for them: ``refer`` and ``resolve``.

>>> decode(encode({(1, 2): {"a"}, "x": [float("inf"), 1.0, 1, True, None]}))
{(1, 2): {'a'}, 'x': [inf, 1.0, 1, True, None]}
"""

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any

_MAX_DEPTH = 300  # at two levels of JSON each, the recursion of the standard library's encoder ends a little above
_MAX_PLAIN_INT = 1 << 63  # above, decimal digits cost quadratic time: hexadecimal
_MAX_EQUAL_HASHES = 100  # a set of values that all hash alike takes quadratic time to build
_MAX_FRACTION_BITS = 100_000  # reducing a fraction takes quadratic time
_MAX_DECIMAL = 10_000  # digits, and size of the exponent: as an int it has as many digits
_MAX_ITEMS = 1_000_000  # of an iterator, which may have no end

Refer = Callable[[object], object]  # what is written for an object in its place; None where it is a value
Resolve = Callable[[Any], object]  # the object that was written so
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, type(None))
}
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})


class ValueCodecError(ValueError):
    """The value, or the text that should be one, cannot cross the border: says why in one line."""


class TooDeepError(ValueCodecError):
    """It is nested deeper than any value that crosses."""


class Record(tuple[Any, ...]):
    """A named tuple whose class stayed on the other side.

    >>> point = Record(("x", "y"), (1, 2))
    >>> point.y, point == (1, 2)
    (2, True)
    """

    _fields: tuple[str, ...]

    def __new__(cls, fields: Iterable[str], items: Iterable[Any]) -> "Record":
        record = super().__new__(cls, items)
        record._fields = tuple(fields)
        return record

    def __getattr__(self, name: str) -> Any:
        if name == "_fields" or name not in self._fields:
            raise AttributeError(f"the named tuple has no field {name!r}")
        return self[self._fields.index(name)]

    def __repr__(self) -> str:
        return f"({', '.join(f'{name}={item!r}' for name, item in zip(self._fields, self, strict=True))})"

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def _replace(self, **changed: Any) -> "Record":
        return Record(self._fields, (self._asdict() | changed).values())


def encode(value: object, refer: Refer | None = None) -> bytes:
    """ASCII JSON of None, numbers, texts and bytes, the builtin and ``collections`` containers, dates, types.

    ``refer`` is asked about everything but scalars and may return a piece of JSON to stand for it. An iterator crosses
    with all its items; without ``refer`` as the list of them.

    Raises:
        ValueCodecError: another type, or nested too deep.
    """
    return json.dumps(_to_json(value, _MAX_DEPTH, refer), allow_nan=False, separators=(",", ":")).encode("ascii")


def decode(data: bytes, resolve: Resolve | None = None, *, longest_range: int | None = None) -> object:
    """The value of such a text, which may be a hostile one.

    Raises:
        ValueCodecError: it is not one that ``encode`` writes, or holds a longer range.
    """
    try:
        node = json.loads(data.decode("ascii"), parse_constant=_refuse_constant)
        return _from_json(node, _MAX_DEPTH, resolve, longest_range)
    except ValueCodecError:
        raise
    except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError) as error:
        raise ValueCodecError(f"not a value of this format: {type(error).__name__}") from None


def crosses(value: object) -> bool:
    """Whether a value is of a type that crosses by itself; what it holds is another matter."""
    return _is_known_type(value) or _writer_of(type(value)) is not None


def mutable_parts(value: object) -> list[Any]:
    """Every list, dictionary, set, deque and bytearray in a value, in an order that a copy of it has too."""
    found: list[Any] = []
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | dict | set | deque | bytearray):
            found.append(part)
        if isinstance(part, dict):
            part = part.values()
        elif not isinstance(part, list | tuple | deque):
            continue
        waiting += [item for item in part if type(item) not in _SCALARS]
    return found


def _to_json(value: Any, depth: int, refer: Refer | None) -> Any:
    """One call for each level of nesting, for a program may have little recursion left."""
    kind = type(value)
    if (write := _SCALAR_WRITERS.get(kind)) is not None:
        return write(value)
    if refer is not None and (reference := refer(value)) is not None:
        return {"ref": reference}
    if depth == 0:
        raise TooDeepError(f"nested deeper than {_MAX_DEPTH}")
    known = kind if kind in _PART_WRITERS else _writer_of(kind)
    if known in _SCALAR_WRITERS:
        return _SCALAR_WRITERS[known](value)
    tag, parts = _PART_WRITERS[known](value) if known else _parts_of_other(value, is_plain=refer is None)
    if not isinstance(parts, list):
        return {tag: parts}
    items = []
    for part in parts:
        items.append(_to_json(part, depth - 1, refer))
    return {tag: items} if tag else items


def _writer_of(kind: type) -> type | None:
    """The type among those that cross that a type is, or derives from."""
    return next((base for base in type.mro(kind) if base in _SCALAR_WRITERS or base in _PART_WRITERS), None)


def _parts_of_other(value: Any, *, is_plain: bool) -> tuple[str, Any]:
    if _is_known_type(value):
        return "type", value.__name__
    if not isinstance(value, Iterator):
        raise ValueCodecError(f"a value of type {type(value).__name__} cannot cross; builtin types can")
    items = list(islice(value, _MAX_ITEMS + 1))
    if len(items) > _MAX_ITEMS:
        raise ValueCodecError(f"an iterator of more than {_MAX_ITEMS} items")
    return "" if is_plain else "iterator", items


def _is_known_type(value: Any) -> bool:
    return isinstance(value, type) and _TYPES.get(value.__name__) is value


def _write_int(value: int) -> Any:
    exact = int.__int__(value)
    return exact if -_MAX_PLAIN_INT < exact < _MAX_PLAIN_INT else {"int": hex(exact)}


def _write_float(value: float) -> Any:
    exact = float.__float__(value)
    return exact if abs(exact) < float("inf") else {"float": repr(exact)}


def _write_complex(value: complex) -> Any:
    exact = complex.__complex__(value)
    return {"complex": [_write_float(exact.real), _write_float(exact.imag)]}


def _parts_of_tuple(value: tuple[Any, ...]) -> tuple[str, Any]:
    items = list(tuple.__iter__(value))
    fields = getattr(value if type(value) is Record else type(value), "_fields", None)
    return ("record", [list(fields), *items]) if fields and _are_fields(fields, len(items)) else ("tuple", items)


def _are_fields(fields: object, length: int) -> bool:
    return (
        isinstance(fields, list | tuple)
        and len(fields) == length
        and all(type(field) is str and field.isidentifier() and field[0] != "_" for field in fields)
    )


def _parts_of_deque(value: deque[Any]) -> tuple[str, Any]:
    return "deque", [value.maxlen, *deque.__iter__(value)]


def _parts_of_defaultdict(value: defaultdict[Any, Any]) -> tuple[str, Any]:
    factory = value.default_factory
    return "defaultdict", [factory if _is_known_type(factory) else None, *_pairs(value)]


def _parts_of_fraction(value: Fraction) -> tuple[str, Any]:
    return "Fraction", [value.numerator, value.denominator]


def _parts_of_timedelta(value: timedelta) -> tuple[str, Any]:
    return "timedelta", [value.days, value.seconds, value.microseconds]


def _pairs(value: dict[Any, Any]) -> list[list[Any]]:
    return [[key, item] for key, item in dict.items(value)]


_SCALAR_WRITERS: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: None,
    bool: lambda value: value,
    int: _write_int,
    float: _write_float,
    complex: _write_complex,
    str: lambda value: str.__str__(value),
    bytes: lambda value: {"bytes": bytes.hex(value)},
}
# A tag with a list of parts that are written in turn, or with JSON that is ready; without a tag, a list.
_PART_WRITERS: dict[type, Callable[[Any], tuple[str, Any]]] = {
    bytearray: lambda value: ("bytearray", bytearray.hex(value)),
    list: lambda value: ("", list(list.__iter__(value))),
    tuple: _parts_of_tuple,
    set: lambda value: ("set", list(set.__iter__(value))),
    frozenset: lambda value: ("frozenset", list(frozenset.__iter__(value))),
    dict: lambda value: ("dict", _pairs(value)),
    Counter: lambda value: ("Counter", _pairs(value)),
    OrderedDict: lambda value: ("OrderedDict", [[key, item] for key, item in OrderedDict.items(value)]),
    defaultdict: _parts_of_defaultdict,
    type({}.keys()): lambda value: ("keys", list(value)),
    type({}.values()): lambda value: ("values", list(value)),
    type({}.items()): lambda value: ("items", [list(pair) for pair in value]),
    deque: _parts_of_deque,
    range: lambda value: ("range", [value.start, value.stop, value.step]),
    Fraction: _parts_of_fraction,
    timedelta: _parts_of_timedelta,
    Decimal: lambda value: ("Decimal", Decimal.__str__(value)),
    datetime: lambda value: ("datetime", datetime.isoformat(value)),
    date: lambda value: ("date", date.isoformat(value)),
    time: lambda value: ("time", time.isoformat(value)),
}


def _from_json(node: Any, depth: int, resolve: Resolve | None, longest_range: int | None) -> Any:
    if not isinstance(node, list | dict):
        return node
    if depth == 0:
        raise TooDeepError(f"nested deeper than {_MAX_DEPTH}")
    tag, content = "", node
    if isinstance(node, dict):
        if len(node) != 1:
            raise ValueCodecError("a tag has one name")
        ((tag, content),) = node.items()
        if tag in _READERS:
            return _READERS[tag](content)
        if tag == "ref" and resolve is not None:
            return resolve(content)
        if tag not in _BUILDERS or not isinstance(content, list):
            raise ValueCodecError("an unknown tag, or one without its list")
    items = []
    for part in content:
        items.append(_from_json(part, depth - 1, resolve, longest_range))
    if not tag:
        return items
    built = _BUILDERS[tag](items)
    if tag == "range" and longest_range is not None and _length(built) > longest_range:
        raise ValueCodecError(f"a range of more than {longest_range} numbers")
    return built


def _length(numbers: range) -> int:
    """As ``len``, which has an end."""
    return max(0, (numbers.stop - numbers.start + numbers.step - (1 if numbers.step > 0 else -1)) // numbers.step)


def _build_dict(pairs: list[Any]) -> dict[Any, Any]:
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueCodecError("a dict without its pairs")
    _hashable([key for key, _ in pairs])
    return dict(pairs)


def _build_record(items: list[Any]) -> tuple[Any, ...]:
    fields, *values = items
    if not _are_fields(fields, len(values)):
        raise ValueCodecError("a named tuple without its names")
    if any(map(callable, values)):  # it could answer for a method that a value has
        return tuple(values)
    return Record(fields, values)


def _build_defaultdict(items: list[Any]) -> defaultdict[Any, Any]:
    factory, *pairs = items
    if factory is not None and not _is_known_type(factory):
        raise ValueCodecError("a defaultdict without its type")
    return defaultdict(factory, _build_dict(pairs))


def _build_fraction(items: list[Any]) -> Fraction:
    numerator, denominator = items
    if max(int.bit_length(numerator), int.bit_length(denominator)) > _MAX_FRACTION_BITS:
        raise ValueCodecError(f"a fraction of more than {_MAX_FRACTION_BITS} bits")
    return Fraction(numerator, denominator)


def _read_decimal(content: str) -> Decimal:
    if len(content) > _MAX_DECIMAL or abs((value := Decimal(content)).adjusted()) > _MAX_DECIMAL:
        raise ValueCodecError(f"a Decimal of more than {_MAX_DECIMAL} digits")
    return value


def _hashable(items: list[Any]) -> list[Any]:
    hashes = sorted(map(hash, items))
    if any(first == last for first, last in zip(hashes, hashes[_MAX_EQUAL_HASHES:], strict=False)):
        raise ValueCodecError(f"more than {_MAX_EQUAL_HASHES} elements with the same hash")
    return items


def _refuse_constant(name: str) -> Any:
    raise ValueCodecError(f"{name} is not JSON")


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda content: int(content, 16),
    "float": lambda content: {"inf": float("inf"), "-inf": -float("inf"), "nan": float("nan")}[content],
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "type": lambda content: _TYPES[content],
    "Decimal": _read_decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}
_BUILDERS: dict[str, Callable[[list[Any]], Any]] = {
    "iterator": iter,
    "complex": lambda items: complex(*items),
    "range": lambda items: range(*items),
    "tuple": tuple,
    "record": _build_record,
    "set": lambda items: set(_hashable(items)),
    "frozenset": lambda items: frozenset(_hashable(items)),
    "dict": _build_dict,
    "Counter": lambda items: Counter(_build_dict(items)),
    "OrderedDict": lambda items: OrderedDict(_build_dict(items)),
    "defaultdict": _build_defaultdict,
    "keys": lambda items: dict.fromkeys(_hashable(items)).keys(),
    "values": lambda items: dict(enumerate(items)).values(),
    "items": lambda items: _build_dict(items).items(),
    "deque": lambda items: deque(items[1:], items[0]),
    "Fraction": _build_fraction,
    "timedelta": lambda items: timedelta(*items),
}
