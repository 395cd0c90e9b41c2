"""Times of day: ``6 PM``, ``6:00 p.m.`` and ``18:00`` are one time, ``6:00 AM`` another."""

import re

_TIME = re.compile(r"(?P<hour>[0-9]{1,2})(?::(?P<minute>[0-5][0-9]))? ?(?:(?P<half>[ap])\.? ?m\.?)?", re.IGNORECASE)


def same_time(reference: str, answer: str) -> bool | None:
    """Whether both name the same time; None where neither writes a.m. or p.m., for then it may be a ratio.

    >>> same_time("6:00 PM", "6 pm"), same_time("6:00 PM", "6:00 AM"), same_time("1:2", "1:2")
    (True, False, None)
    """
    expected, given = _TIME.fullmatch(reference), _TIME.fullmatch(answer)
    if expected is None or given is None or not (expected["half"] or given["half"]):
        return None
    if not expected["half"] and not expected["minute"]:
        return None  # the reference is a number
    if not given["half"] and not given["minute"]:
        return False
    first, second = _minutes(expected), _minutes(given)
    if expected["half"] and given["half"] or first >= 720 or second >= 720:
        return first == second
    return first % 720 == second % 720


def _minutes(time: re.Match[str]) -> int:
    hour = int(time["hour"])
    if time["half"]:
        hour = hour % 12 + (12 if time["half"].lower() == "p" else 0)
    return 60 * hour + int(time["minute"] or 0)
