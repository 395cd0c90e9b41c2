r"""Find the answer in what a model wrote. Every search is linear in the length of the text.

A completion often holds several candidates; the last one counts, as the last word of the model. Boxes joined by
nothing but a comma, "and" or "or" are one span (``\boxed{7} or \boxed{8}`` reads ``7 or 8``), and so are those between
which stands nothing but another separator or a doubt, so that an answer that names two values cannot pass for either.
For the same reason a box within answer tags is the answer only where nothing is said after it.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

# Groups of digits are bounded so that a flood of ",234" cannot make the search quadratic.
UNSIGNED = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_SIGN = r"(?<![\w)\]}.%])[+\-\u2212]\$?"  # after an operand it is an operator: 14-8 holds 14 and 8
_FRACTION = r"\\[dt]?frac ?\{ ?-?[0-9]{1,40} ?\} ?\{ ?[0-9]{1,40} ?\}"
_MIXED = r"[0-9]{1,40} [0-9]{1,9}/[0-9]{1,9}(?![0-9/])"
_SPACED = r"[0-9]{1,3}(?: [0-9]{3}){1,6}(?![0-9,]|\.[0-9])"
_NUMBER = re.compile(
    rf"(?:{_SIGN})?(?:{_FRACTION}|(?<![0-9.,]){_MIXED}|(?<![0-9.,]){_SPACED}"
    rf"|{UNSIGNED}(?:[eE][+-]?[0-9]{{1,3}}(?![\w.])|(?: ?/ ?{UNSIGNED})?))"
)

_BRACES = re.compile(r"\\(?:boxed|fbox)(?:\s{0,8}\{|\s{0,8}[0-9](?![0-9]))|\\.|[{}]", re.DOTALL)
_OPENING = r"(?:\s|[$*]|\\[()\[\]]|\\q?quad(?![A-Za-z])|\\[,;: ]|~)*"
_WORDS = r"(?:and|or|not|maybe|perhaps|possibly|also|else|nor|but)"
_JOIN = re.compile(
    rf"{_OPENING}([,;/|&]?(?:\s*(?:{_WORDS}(?:\s+{_WORDS})*|\\text\{{\s*{_WORDS}(?:\s+{_WORDS})*\s*\}}))?){_OPENING}"
)
_PARAGRAPH = re.compile(r"\n\s*\n")
_MAX_JOIN = 24  # characters between two boxes that may still be one answer
_MAX_LISTED = 64  # boxes in one answer
_FINAL_ANSWER = re.compile(
    r"(?:final\s{1,8}answer(?:\s{1,8}is)?|\b(?:the|our|my)\s{1,8}(?:correct\s{1,8})?answer\s{1,8}is|\banswer\s{0,8}:)[\s:*]*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[.?](?=\s|$)|(?<![0-9)])!(?=\s|$)|!$")  # 5! = 120 does not end at the factorial
_NO_ANSWER = re.compile(
    r"(?:in|not\s)?(?:correct|right|wrong|clear|known|unclear|unknown|now|given|found|below|above|as\s{1,8}follows)\b",
    re.IGNORECASE,
)
_HASHES = "####"


class Box(NamedTuple):
    command: int  # offset of the backslash
    start: int  # of the content
    end: int  # of the content: the closing brace, where there are braces
    after: int  # behind the box


def answer_tags(text: str) -> str | None:
    """What stands between the last ``</answer>`` and the ``<answer>`` before it, or the box inside it.

    >>> answer_tags("<think>7?</think> <answer> 8 </answer>")
    '8'
    """
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    if start < 0:
        return None
    return _unbox_alone(text[start + len("<answer>") : end])


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` with balanced braces, with the boxes it is listed with.

    >>> boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> boxed(r"\boxed{7} or \boxed{8}")
    '7 or 8'
    """
    boxes = _outermost_boxes(text)[-_MAX_LISTED:]
    if not boxes:
        return None
    span = text[boxes[-1].start : boxes[-1].end].strip()
    for box, following in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        between = text[box.after : following.command]
        join = _JOIN.fullmatch(between) if len(between) <= _MAX_JOIN and not _PARAGRAPH.search(between) else None
        if join is None:
            break
        span = f"{text[box.start : box.end].strip()} {join.group(1).strip() or ';'} {span}"
    return span


def final_answer(text: str) -> str | None:
    """What follows the last "final answer is" or "Final Answer:", to the end of its sentence.

    >>> final_answer("Thus the final answer is $3.5$. I hope it is correct.")
    '$3.5$'
    """
    anchors = deque((at.end() for at in _FINAL_ANSWER.finditer(text) if not _NO_ANSWER.match(text, at.end())), maxlen=1)
    if not anchors:
        return None
    stop = _SENTENCE_END.search(text, anchors[0])
    return _unbox(text[anchors[0] : stop.start() if stop else len(text)].strip(" *")) or None


def auto(text: str) -> str | None:
    """The first of these that finds something: answer tags, the last box, the final answer, ``####``. Tags and boxes
    that are empty are passed over.

    >>> auto("<answer>3</answer>"), auto("The final answer is 4.")
    ('3', '4')
    """
    for search in (answer_tags, boxed, final_answer, hashes):
        span = search(text)
        if span:
            return span
    return None


def hashes(text: str) -> str | None:
    """What follows the last ``####`` on its line, as GSM8K marks its answers.

    >>> hashes("6 * 7 = 42\\n#### 42")
    '42'
    """
    at = text.rfind(_HASHES)
    if at < 0:
        return None
    return text[at + len(_HASHES) :].split("\n", 1)[0].strip() or None


def last_number(text: str) -> str | None:
    """The last number: ``14-8+12=18`` gives 18, ``7-8`` gives 8, ``it is -8`` gives -8, ``it is 1 1/4`` all of it."""
    numbers = deque(_NUMBER.finditer(text), maxlen=1)
    return numbers[0].group() if numbers else None


def first_number(text: str) -> str | None:
    """The first bare number."""
    number = _NUMBER.search(text)
    return number.group() if number else None


def whole(text: str) -> str | None:
    """The text itself, or the box in it."""
    return _unbox(text) or None


EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "answer_tags": answer_tags,
    "boxed": boxed,
    "final_answer": final_answer,
    "hashes": hashes,
    "last_number": last_number,
    "first_number": first_number,
    "whole": whole,
    "auto": auto,
}


def extractor(name: str) -> Callable[[str], str | None]:
    """The search of that name.

    Raises:
        ValueError: there is none of that name; the message lists those there are.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"extract = {name!r}: allowed are {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


def _unbox(span: str) -> str:
    return boxed(span) or span.strip()


def _unbox_alone(span: str) -> str:
    r"""The box, or all of ``span`` where it goes on behind the box: ``\boxed{4}. Actually 5`` takes it back."""
    boxes = _outermost_boxes(span)
    if boxes and any(character.isalnum() for character in span[boxes[-1].after :]):
        return span.strip()
    return _unbox(span)


def _outermost_boxes(text: str) -> list[Box]:
    r"""Every balanced box that lies in no other, in order. Braces written ``\{`` do not count."""
    found: list[Box] = []
    opened: list[Box | None] = []  # None for a plain brace
    for token in _BRACES.finditer(text):
        symbol = token.group()
        if symbol == "}":
            box = opened.pop() if opened else None
            if box is not None:
                _drop_inside(found, box)
                found.append(box._replace(end=token.start(), after=token.end()))
        elif symbol == "{":
            opened.append(None)
        elif symbol.endswith("{") and len(symbol) > 2:
            opened.append(Box(token.start(), token.end(), -1, -1))
        elif symbol[-1].isdigit() and len(symbol) > 2:
            found.append(Box(token.start(), token.end() - 1, token.end(), token.end()))
    return found


def _drop_inside(found: list[Box], outer: Box) -> None:
    while found and found[-1].start > outer.start:
        found.pop()
