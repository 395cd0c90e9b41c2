"""Python values as JSON that keeps their types, for the border of the sandbox: both sides speak it.

What comes back is built anew of exact builtin types. A subclass is reduced to the builtin value that it holds, read by
the builtin's own methods, so nothing that a program overrides has a say.

>>> decode(encode({(1, 2): {"a"}, "x": [float("inf"), 1.0, 1, True, None]}))
{(1, 2): {'a'}, 'x': [inf, 1.0, 1, True, None]}
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

_MAX_DEPTH = 100
_MAX_PLAIN_INT = 1 << 63  # above, decimal digits cost quadratic time: hexadecimal
_MAX_EQUAL_HASHES = 100  # a set of values that all hash alike takes quadratic time to build


class ValueCodecError(ValueError):
    """The value, or the text that should be one, cannot cross the border: says why in one line."""


def encode(value: object) -> bytes:
    """ASCII JSON of None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict and range.

    Raises:
        ValueCodecError: another type, or nested too deep.
    """
    return json.dumps(_to_json(value, _MAX_DEPTH), allow_nan=False, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> object:
    """The value of such a text, which may be a hostile one.

    Raises:
        ValueCodecError: it is not one that ``encode`` writes.
    """
    try:
        return _from_json(json.loads(data.decode("ascii"), parse_constant=_refuse_constant), _MAX_DEPTH)
    except ValueCodecError:
        raise
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError) as error:
        raise ValueCodecError(f"not a value of this format: {type(error).__name__}") from None


def _to_json(value: Any, depth: int) -> Any:
    if depth == 0:
        raise ValueCodecError(f"nested deeper than {_MAX_DEPTH}")
    for base in type.mro(type(value)):
        if (write := _WRITERS.get(base)) is not None:
            return write(value, depth - 1)
    raise ValueCodecError(f"a value of type {type(value).__name__} cannot cross; builtin types can")


def _write_int(value: int, depth: int) -> Any:
    exact = int.__int__(value)
    return exact if -_MAX_PLAIN_INT < exact < _MAX_PLAIN_INT else {"int": hex(exact)}


def _write_float(value: float, depth: int) -> Any:
    exact = float.__float__(value)
    return exact if abs(exact) < float("inf") else {"float": repr(exact)}


def _write_complex(value: complex, depth: int) -> Any:
    exact = complex.__complex__(value)
    return {"complex": [_write_float(exact.real, depth), _write_float(exact.imag, depth)]}


def _write_all(tag: str | None, iterate: Callable[[Any], Iterable[Any]]) -> Callable[[Any, int], Any]:
    def write(value: Any, depth: int) -> Any:
        items = [_to_json(item, depth) for item in iterate(value)]
        return items if tag is None else {tag: items}

    return write


def _write_dict(value: Any, depth: int) -> Any:
    return {"dict": [[_to_json(key, depth), _to_json(item, depth)] for key, item in dict.items(value)]}


_WRITERS: dict[type, Callable[[Any, int], Any]] = {
    type(None): lambda value, depth: None,
    bool: lambda value, depth: value,
    int: _write_int,
    float: _write_float,
    complex: _write_complex,
    str: lambda value, depth: str.__str__(value),
    bytes: lambda value, depth: {"bytes": bytes.hex(value)},
    bytearray: lambda value, depth: {"bytearray": bytearray.hex(value)},
    range: lambda value, depth: {"range": [_write_int(part, depth) for part in (value.start, value.stop, value.step)]},
    list: _write_all(None, list.__iter__),
    tuple: _write_all("tuple", tuple.__iter__),
    set: _write_all("set", set.__iter__),
    frozenset: _write_all("frozenset", frozenset.__iter__),
    dict: _write_dict,
}


def _from_json(node: Any, depth: int) -> Any:
    if depth == 0:
        raise ValueCodecError(f"nested deeper than {_MAX_DEPTH}")
    if isinstance(node, list):
        return [_from_json(item, depth - 1) for item in node]
    if not isinstance(node, dict):
        return node
    if len(node) != 1:
        raise ValueCodecError("a tag has one name")
    ((tag, content),) = node.items()
    if tag not in _READERS:
        raise ValueCodecError("an unknown tag")
    return _READERS[tag](content, depth - 1)


def _read_items(content: Any, depth: int) -> list[Any]:
    if not isinstance(content, list):
        raise ValueCodecError("a tag without its list")
    return [_from_json(item, depth) for item in content]


def _read_set(kind: type) -> Callable[[Any, int], Any]:
    def read(content: Any, depth: int) -> Any:
        return kind(_hashable(_read_items(content, depth)))

    return read


def _read_dict(content: Any, depth: int) -> dict[Any, Any]:
    pairs = _read_items(content, depth)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueCodecError("a dict without its pairs")
    _hashable([key for key, _ in pairs])
    return dict(pairs)


def _hashable(items: list[Any]) -> list[Any]:
    hashes = sorted(map(hash, items))
    if any(first == last for first, last in zip(hashes, hashes[_MAX_EQUAL_HASHES:], strict=False)):
        raise ValueCodecError(f"more than {_MAX_EQUAL_HASHES} elements with the same hash")
    return items


def _read_complex(content: Any, depth: int) -> complex:
    real, imaginary = _read_items(content, depth + 1)
    return complex(real, imaginary)


def _read_int(content: Any, depth: int) -> int:
    return int(content, 16)


def _refuse_constant(name: str) -> Any:
    raise ValueCodecError(f"{name} is not JSON")


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "int": _read_int,
    "float": lambda content, depth: {"inf": float("inf"), "-inf": -float("inf"), "nan": float("nan")}[content],
    "complex": _read_complex,
    "bytes": lambda content, depth: bytes.fromhex(content),
    "bytearray": lambda content, depth: bytearray.fromhex(content),
    "range": lambda content, depth: range(*_read_items(content, depth + 1)),
    "tuple": lambda content, depth: tuple(_read_items(content, depth)),
    "set": _read_set(set),
    "frozenset": _read_set(frozenset),
    "dict": _read_dict,
}
