"""A returned value against the expected one. Both are of exact builtin types, so that no ``__eq__`` can lie.

The expected value came from JSON, so the returned one is read as JSON would hold it: a tuple is a list, and a
dictionary's keys are texts. Beyond that types are strict: ``True`` is not 1, ``"1"`` is not 1, a set is no list. An
integer and a float of the same value are equal; where a float is expected, a number within the tolerance will do.
"""

from collections.abc import Mapping

from rewards.code_output import close

_MAX_SHOWN = 80
_NAMED_KEYS = {True: "true", False: "false", None: "null"}


def same_value(expected: object, given: object, tolerance: float) -> bool:
    """Whether ``given`` is what was expected. Descends no deeper than ``expected`` does.

    >>> same_value([1, 0.5], (1, 0.5000000001), 1e-6), same_value(1, True, 1e-6)
    (True, False)
    """
    if isinstance(expected, bool) or isinstance(given, bool):
        return expected is given
    if isinstance(expected, int | float):
        return isinstance(given, int | float) and _same_number(expected, given, tolerance)
    if isinstance(expected, list | tuple):
        return (
            isinstance(given, list | tuple)
            and len(expected) == len(given)
            and all(same_value(one, other, tolerance) for one, other in zip(expected, given, strict=True))
        )
    if isinstance(expected, Mapping):
        return isinstance(given, dict) and _same_members(expected, given, tolerance)
    return type(expected) is type(given) and expected == given


def shown(value: object) -> str:
    """A value for people, cut short: one that a model made may be of any size."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # digits without end, or lists within lists
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _same_number(expected: float, given: float, tolerance: float) -> bool:
    if isinstance(expected, int):
        return expected == given
    try:
        return close(expected, float(given), tolerance)
    except OverflowError:  # an int beyond every float
        return False


def _same_members(expected: Mapping[object, object], given: Mapping[object, object], tolerance: float) -> bool:
    wanted = {_key(key): value for key, value in expected.items()}
    found = {_key(key): value for key, value in given.items()}
    return (
        len(found) == len(given)  # no two keys that JSON could not tell apart
        and wanted.keys() == found.keys()
        and all(same_value(value, found[key], tolerance) for key, value in wanted.items())
    )


def _key(key: object) -> object:
    if isinstance(key, bool) or key is None:
        return _NAMED_KEYS[key]
    return str(key) if isinstance(key, int) and abs(key) < 1 << 64 else key
