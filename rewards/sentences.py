"""Words and sentences, counted without a trained model. Linear in the text."""

import re

_WORD = re.compile(r"\w+")
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=\s|$)|[。！？]++[」』”]?")
_MAX_WORD = 20  # characters looked at before and after a stop
_NEXT_LETTER = re.compile(r"[\s\"'“‘(\[*_#>-]*(\w)")
_LAST_WORD = re.compile(r"([^\s\"'“‘(\[*_]+)$")
_INITIALS = re.compile(r"(?:[A-Za-z]\.){1,6}[A-Za-z]")  # U.S, e.g, p.m
_TITLE_NAMES = "mr mrs ms dr prof rev gen col capt lt sgt hon pres gov sen rep st mt vs fig no"
_MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec"
_TITLES = frozenset(_TITLE_NAMES.split())
_ABBREVIATIONS = frozenset(f"sr jr etc al approx dept est vol pp ed inc ltd co corp ave blvd rd {_MONTHS}".split())


def num_words(text: str) -> int:
    """Runs of letters, digits and underscores: ``don't`` holds two.

    >>> num_words("It's 3.5 km")
    5
    """
    return sum(1 for _ in _WORD.finditer(text))


def num_sentences(text: str) -> int:
    """Stretches that end in a stop, an exclamation or question mark, and hold a letter or digit.

    A heading without a stop belongs to the sentence after it. No sentence ends with a title (``Dr. Lee``), with an
    initial (``J. Smith``), or with another abbreviation before a word in lower case (``5 p.m. and``).

    >>> num_sentences("Dr. Lee left at 3.5 p.m. and slept. Did she? Yes!")
    3
    """
    count = start = 0
    for end in _END.finditer(text):
        if end.start() < start or _goes_on(text, end):
            continue
        count += _WORD.search(text, start, end.start()) is not None
        start = end.end()
    return count + (_WORD.search(text, start) is not None)


def _goes_on(text: str, end: re.Match[str]) -> bool:
    """Whether the sentence goes on after this full stop."""
    last = _LAST_WORD.search(text[max(end.start() - _MAX_WORD, 0) : end.start()])
    if end.group() != "." or last is None:
        return False
    word = last.group(1)
    if word.lower() in _TITLES or (len(word) == 1 and word.isupper() and word != "I"):
        return True
    following = _NEXT_LETTER.match(text, end.end(), end.end() + _MAX_WORD)
    abbreviated = word.lower() in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None
    return abbreviated and following is not None and following.group(1).islower()
