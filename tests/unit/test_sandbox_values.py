"""The border's format: what crosses keeps its type, what is not of it is refused, and no text is too hostile."""

import collections
import contextlib
import enum
import json
import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewards.sandbox_values import ValueCodecError, decode, encode

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # also on a machine under load
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
keys = st.integers() | st.text() | st.tuples(st.integers(), st.text()) | st.frozensets(st.integers())
values = st.recursive(
    plain,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner) | st.sets(keys),
    max_leaves=20,
)


@unhurried
@given(values)
def test_a_value_crosses_with_its_types(value: object) -> None:
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value) or isinstance(value, set | list | tuple | dict)


@unhurried
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_value_or_is_refused_in_the_one_way(text: str) -> None:
    with contextlib.suppress(ValueCodecError):
        decode(text.encode("utf-8", "surrogatepass"))


@unhurried
@given(
    st.recursive(
        plain.filter(lambda v: not isinstance(v, bytes | complex)),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["int", "float", "set", "dict", "tuple", "bytes", "range", "complex", "x"]), inner
            )
        ),
    )
)
def test_tags_that_nobody_wrote_are_values_or_refused_in_the_one_way(node: object) -> None:
    with contextlib.suppress(ValueCodecError):
        assert encode(decode(json.dumps(node).encode()))


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__

    def __int__(self) -> int:
        return 99

    __index__ = __int__


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (Liar(3), 3),
        (Colour.RED, 1),
        (Point(1, 2), (1, 2)),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (type("Text", (str,), {"__str__": lambda self: "lie"})("true"), "true"),
        (type("Numbers", (list,), {"__iter__": lambda self: iter("lie")})([1]), [1]),
    ],
)
def test_a_subclass_is_reduced_to_what_it_holds(value: object, exact: object) -> None:
    back = decode(encode(value))
    assert type(back) is type(exact)
    assert back == exact


def test_a_nan_stays_one() -> None:
    back = decode(encode([float("nan")]))
    assert isinstance(back, list)
    assert math.isnan(back[0])


@pytest.mark.parametrize("value", [object(), len, iter([]), type, Ellipsis, collections.deque(), [[object()]]])
def test_other_types_cannot_cross(value: object) -> None:
    with pytest.raises(ValueCodecError, match="cannot cross"):
        encode(value)


def test_a_value_nested_without_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueCodecError, match="nested deeper"):
        encode(endless)
    for depth in (200, 100_000):
        with pytest.raises(ValueCodecError):
            decode(b"[" * depth + b"]" * depth)


def test_values_made_to_collide_take_no_time() -> None:
    start = time.process_time()
    for tag in ("set", "frozenset"):
        with pytest.raises(ValueCodecError, match="same hash"):
            decode(json.dumps({tag: [i * (2**61 - 1) for i in range(1, 30_000)]}).encode())
    assert time.process_time() - start < 2.0
