"""Arguments of verifiers, checked with one message for each kind of mistake: name, value, what is allowed."""

from collections.abc import Iterable


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raises ValueError unless ``value`` is one of those allowed."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}: allowed are {', '.join(allowed)}")


def check_number(name: str, value: object, least: float, most: float, *, of: str = "") -> None:
    """``of``: what the number counts, as in "of seconds". Raises ValueError unless it lies between the two."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        counted = f" {of}" if of else ""
        raise ValueError(f"{name} = {value!r}: a number{counted} from {least:g} to {most:g} is needed")


def check_whole(name: str, value: object, least: int, most: int | None = None, *, of: str = "") -> None:
    """As ``check_number``, for whole numbers; without ``most`` there is no upper bound."""
    if not isinstance(value, bool) and isinstance(value, int) and value >= least and (most is None or value <= most):
        return
    counted = f" {of}" if of else ""
    bounds = f", at least {least}," if most is None else f" from {least} to {most}"
    raise ValueError(f"{name} = {value!r}: a whole number{counted}{bounds} is needed")
