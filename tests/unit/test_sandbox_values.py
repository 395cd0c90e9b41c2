"""The border's format: what crosses keeps its type, what is not of it is refused, and no text is too hostile."""

import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import itertools
import json
import math
import time
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewards.sandbox_values import Record, ValueCodecError, decode, encode, mutable_parts

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
        (Colour.__mro__[1]("Other", "BLUE").BLUE, 1),
        (
            type("Count", (collections.Counter,), {"__eq__": lambda self, other: True})("aab"),
            collections.Counter("aab"),
        ),
        (
            type("Late", (datetime.date,), {"isoformat": lambda self: "2000-01-01"})(2024, 2, 29),
            datetime.date(2024, 2, 29),
        ),
        (type("Half", (fractions.Fraction,), {})(1, 2), fractions.Fraction(1, 2)),
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


@pytest.mark.parametrize(
    "value",
    [
        collections.Counter("aab"),
        collections.OrderedDict(b=1, a=2),
        collections.deque([1, [2]], maxlen=5),
        decimal.Decimal("1.50"),
        decimal.Decimal("-Infinity"),
        fractions.Fraction(-3, 7),
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        datetime.time(12, 30),
        datetime.timedelta(days=-1, microseconds=3),
        bytearray(b"x"),
        range(10**30),
        {1: 2}.keys(),
        {1: 2}.items(),
        [int, dict, type(None)],
    ],
)
def test_types_of_the_standard_library_cross(value: object) -> None:
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


def test_what_compares_by_its_contents_crosses_with_them() -> None:
    values, record, missing = cast(Any, decode(encode([{1: 2}.values(), Point(1, [2]), collections.defaultdict(list)])))
    assert list(values) == [2]
    assert (record.x, record.y, record) == (1, [2], (1, [2]))
    assert record._replace(x=5)._asdict() == {"x": 5, "y": [2]}
    assert decode(encode(record)).y == [2]  # type: ignore[attr-defined]
    assert missing["new"] == []
    assert collections.OrderedDict(a=1, b=2) != decode(encode(collections.OrderedDict(b=2, a=1)))


def test_a_named_tuple_of_functions_crosses_without_its_names() -> None:
    back = decode(encode(Record(("startswith", "x"), (int, 1))))
    assert (type(back), back) == (tuple, (int, 1))


def test_an_iterator_crosses_as_its_items_unless_it_has_no_end() -> None:
    assert decode(encode([map(str, [1]), (n for n in range(2))])) == [["1"], [0, 1]]
    with pytest.raises(ValueCodecError, match="an iterator of more than"):
        encode(itertools.count())


def test_other_objects_cross_by_the_numbers_that_both_sides_give_them() -> None:
    class Own:
        pass

    kept: list[object] = [Own(), Own]
    data = encode({"a": [kept[1], kept[0], 3]}, lambda value: kept.index(value) if value in kept else None)
    assert decode(data, lambda number: kept[number]) == {"a": [Own, kept[0], 3]}
    with pytest.raises(ValueCodecError, match="unknown tag"):
        decode(data)


@pytest.mark.parametrize(
    "node",
    [
        {"Decimal": "1E+99999999"},
        {"Decimal": "9" * 20_000},
        {"Fraction": [{"int": "0x" + "f" * 200_000}, 3]},
        {"Fraction": [1, 0]},
        {"record": [["index", "_x"], 1, 2]},
        {"record": [["x"], 1, 2]},
        {"record": []},
        {"defaultdict": ["list"]},
        {"deque": []},
        {"type": "type"},
        {"type": ["int"]},
        {"timedelta": [10**30]},
        {"date": "yesterday"},
        {"ref": 0},
    ],
)
def test_no_value_is_made_that_would_keep_us_busy_or_answer_as_it_likes(node: object) -> None:
    with pytest.raises(ValueCodecError):
        decode(json.dumps(node).encode())


def test_a_range_is_no_longer_than_is_asked_for() -> None:
    for numbers in (range(10), range(10**12, 0, -(10**11)), range(5, 0)):
        assert decode(encode(numbers), longest_range=10) == numbers
    for numbers in (range(11), range(10**12), range(10**12, 0, -1)):
        with pytest.raises(ValueCodecError, match="a range of more than 10"):
            decode(encode(numbers), longest_range=10)


def test_the_parts_that_can_change_are_found_in_the_same_order_in_a_copy() -> None:
    value = {"a": [1, {2}, (3, [4])], "b": (bytearray(b"x"), collections.deque([{}]))}
    parts = mutable_parts(value)
    assert len(parts) == 7
    assert mutable_parts(decode(encode(value))) == parts


@pytest.mark.parametrize("value", [object(), len, type, Ellipsis, Liar, [[object()]]])
def test_other_types_cannot_cross(value: object) -> None:
    with pytest.raises(ValueCodecError, match="cannot cross"):
        encode(value)


def test_a_value_nested_without_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueCodecError, match="nested deeper"):
        encode(endless)
    assert decode(b"[" * 300 + b"]" * 300)
    for depth in (301, 100_000):
        with pytest.raises(ValueCodecError):
            decode(b"[" * depth + b"]" * depth)


def test_values_made_to_collide_take_no_time() -> None:
    start = time.process_time()
    for tag in ("set", "frozenset"):
        with pytest.raises(ValueCodecError, match="same hash"):
            decode(json.dumps({tag: [i * (2**61 - 1) for i in range(1, 30_000)]}).encode())
    assert time.process_time() - start < 2.0
