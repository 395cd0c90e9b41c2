r"""Multiple choice: the letter of an option, bare or before what the option says.

``B``, ``(B)``, ``B.``, ``\text{(B)}``, ``option B`` name an option; ``(B) 12`` and ``B. 12`` name it with its value.
``B 12``, ``B or C`` and ``(B) but maybe (C)`` name none.
"""

import re
from typing import NamedTuple

_MARKUP = re.compile(r"\\(?:text|textbf|mathbf|textrm|mathrm|mbox|bold|boldsymbol) ?\{([^{}]{0,80})\}")
_OPTION = re.compile(
    r"(?:(?:the )?(?:correct )?(?:option|choice|answer)(?: is)?:? )?"
    r"(?:\((?P<bracketed>[A-J])\)|(?P<marked>[A-J])[.):](?= |$)|(?P<bare>[A-J])$)"
    r"(?! ?(?:or\b|and\b|[,;/&(])) ?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_OPTION = re.compile(r"\([A-J]\)|(?<![A-Za-z])[A-J](?:[.):]|$)")
_SECOND_THOUGHT = re.compile(r"\W*(?:but|also|maybe|perhaps|possibly|or|and|not|else|actually|wait)\b", re.IGNORECASE)
_MAX_CHARACTERS = 300


class Option(NamedTuple):
    letter: str  # upper case
    rest: str  # what the option says; often empty


def option_of(text: str) -> Option | None:
    r"""The option that ``text`` names.

    >>> option_of(r"\textbf{(B) }12"), option_of("C."), option_of("x = 3")
    (Option(letter='B', rest='12'), Option(letter='C', rest=''), None)
    """
    if len(text) > _MAX_CHARACTERS:
        return None
    text = " ".join(_MARKUP.sub(r"\1 ", text.replace("\\ ", " ").replace("~", " ").replace("$", " ")).split())
    match = _OPTION.fullmatch(text.strip("* "))
    if match is None:
        return None
    if _OTHER_OPTION.search(match["rest"]) or _SECOND_THOUGHT.match(match["rest"]):
        return None  # two options are neither
    letter = match["bracketed"] or match["marked"] or match["bare"]
    return Option(letter.upper(), match["rest"].strip(" ."))


def same_option(reference: str, answer: str) -> bool | None:
    """Whether both name the same option, by its letter; None where one names none, or letters decide nothing."""
    expected, given = option_of(reference), option_of(answer)
    if expected is None or given is None:
        return None
    if expected.letter != given.letter:
        return None if not (expected.rest or given.rest) and _is_variable(reference) else False
    if _is_variable(reference) and reference.strip() != reference.strip().upper():
        return None  # the reference is the variable b, not an option
    return None if expected.rest and given.rest else True


def without_option(text: str) -> str:
    """``12`` of ``(B) 12``; any other text as it is."""
    option = option_of(text)
    return option.rest if option is not None and option.rest else text


def _is_variable(text: str) -> bool:
    """Whether it is one bare letter, which may also be the name of a quantity."""
    return len(text.strip()) == 1
