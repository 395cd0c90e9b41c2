"""Every verifier by the name that recipes know it by."""

from collections.abc import Callable, Iterator

from rewards.judged_length import CosineLengthVerifier, GroupLengthVerifier
from rewards.judges import JUDGES, make_from
from rewards.verdict import Verifier


def _all() -> Iterator[tuple[str, Callable[..., Verifier]]]:
    """Those that take another verifier's verdict stand beside the length that they are kinds of."""
    for name, maker in JUDGES.items():
        yield name, maker
        if name == "length":
            yield "cosine_length", CosineLengthVerifier
            yield "group_length", GroupLengthVerifier


VERIFIERS: dict[str, Callable[..., Verifier]] = dict(_all())


def make_verifier(name: str, **args: object) -> Verifier:
    """The verifier of that name.

    Raises:
        ValueError: no verifier has the name, it takes no such argument, lacks one, or refuses a value; the message
            says which, what is allowed, and the nearest match.
    """
    return make_from(VERIFIERS, name, args)
