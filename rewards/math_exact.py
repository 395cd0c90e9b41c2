r"""What needs no algebra: decided exactly in the calling process, in time linear in the text.

Same text, option letters, numbers, lists of numbers, names, and whatever has a normal form: most answers never reach
the child. None means that the child must judge.
"""

import hashlib
import re
from fractions import Fraction
from functools import lru_cache

from rewards.choice import option_of, same_option, without_option
from rewards.math_clock import same_time
from rewards.math_compare import EXACT, compare
from rewards.math_form import NoFormError, form_of, spell, spell_fraction
from rewards.math_grammar import parse
from rewards.math_scanner import ForeignError, NotReadableError
from rewards.math_shape import is_expression, shape
from rewards.math_text import is_wordy, tidy, words_in
from rewards.math_tree import MAX_DIGITS, Node
from rewards.number import parse_number, quantity_of
from rewards.unit import same_unit

MAX_CHARACTERS = 1_000  # of an answer that is to be parsed; MATH-500's longest reference has 53
MAX_DEPTH = 24  # brackets within brackets
_MAX_LISTED_CHARACTERS = 20_000  # of a list of plain numbers, which is compared without parsing
_MAX_SPELLED = 400
_BRACKET = re.compile(r"[({\[]|[)}\]]")
_LISTS = (("\\{", "\\}"), ("(", ")"))
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 .,:'’&/\-]*")
_GROUPED = re.compile(r"[0-9],[0-9]{3}")
_LOOSE = re.compile(r" (?![0-9A-Za-z])|(?<![0-9A-Za-z]) ")
_UNDONE = re.compile(r"\\(?:int|iint|oint|sum|prod|lim)(?![A-Za-z])")


def decide(answer: str, reference: str) -> bool | None:
    """Whether the answer is right, where exact rules tell; both stripped of markup by the caller."""
    if squeeze(answer) == squeeze(reference):
        return True
    option = same_option(reference, answer)
    if option is not None:
        return option
    timed = same_time(words_in(tidy(reference)), words_in(tidy(answer))) if len(answer) < 40 else None
    if timed is not None:
        return timed
    answer, reference = without_option(answer), without_option(reference)
    number = _same_number(answer, reference)
    if number is not None:
        return number
    listed = _same_listed(answer, reference)
    if listed is not None or max(len(answer), len(reference)) > MAX_CHARACTERS:
        return listed
    if _same_name(answer, reference):
        return True
    return False if is_name(reference) else _same_tree(answer, reference)


def refusal(text: str) -> str | None:
    """Why ``text`` is not parsed, in one line; None where it is."""
    if len(text) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS} characters"
    if depth(text) > MAX_DEPTH:
        return f"more than {MAX_DEPTH} brackets within one another"
    tree = read(text)
    if tree is not None and tree.digits > MAX_DIGITS:
        return f"its value would have more than {MAX_DIGITS:.0e} digits"
    return None


def refusal_of_answer(answer: str, reference: str) -> str | None:
    """As ``refusal``, and what no answer may be: prose, no mathematics, or work left undone."""
    refused = refusal(answer)
    if refused is not None or read(answer) is not None or (is_name(answer) and is_name(reference)):
        return refused
    text = tidy(answer)
    if not is_foreign(answer) or is_wordy(text) or text.count("{") != text.count("}"):
        return "it cannot be read as mathematics"
    if len(_UNDONE.findall(text)) > len(_UNDONE.findall(reference)):
        return "it leaves a sum, a limit or an integral to be worked out"
    return None


def is_name(text: str) -> bool:
    """Whether it is a name or other words, which are only compared as text."""
    if len(text) > MAX_CHARACTERS or read(text) is not None or is_foreign(text):
        return False
    return _NAME.fullmatch(words_in(tidy(text))) is not None


def read(text: str, *, grouped: bool = True) -> Node | None:
    """The tree of a text; None where the grammar does not read it or the caps forbid to."""
    parsed = _parsed(text, grouped) if len(text) <= MAX_CHARACTERS else None  # a cache must not keep floods alive
    return parsed if isinstance(parsed, Node) else None


def is_foreign(text: str) -> bool:
    """Whether it may be mathematics that the grammar does not know: integrals, limits, infinite sums, cases."""
    return len(text) <= MAX_CHARACTERS and isinstance(_parsed(text, True), ForeignError)


@lru_cache(maxsize=2048)  # a group's answers share their reference, and often their text
def _parsed(text: str, grouped: bool) -> Node | NotReadableError:
    if depth(text) > MAX_DEPTH:
        return NotReadableError("beyond the caps")
    try:
        return parse(tidy(text), grouped=grouped)
    except NotReadableError as error:
        return error.with_traceback(None)


def canonical(text: str) -> str:
    """One spelling for answers that state the same value: what a majority vote counts."""
    number = parse_number(text)
    if number is not None:
        return spell_fraction(number)
    option = option_of(text)
    if option is not None and not option.rest:
        return option.letter
    spelled = spell_answer(text)
    return words_in(tidy(text)).casefold() if spelled is None and is_name(text) else spelled or squeeze_short(text)


def spell_answer(text: str) -> str | None:
    """The normal form of a text that the grammar reads, else None."""
    tree = read(text)
    return None if tree is None or tree.digits > MAX_DIGITS else _cut(_spell(shape(tree)))


def depth(text: str) -> int:
    """Of brackets within one another, whether or not they match."""
    now = deepest = 0
    for bracket in _BRACKET.findall(text):
        now += 1 if bracket in "({[" else -1
        deepest = max(deepest, now)
    return deepest


def squeeze(text: str) -> str:
    """Without the white space that means nothing: between two digits or letters one space stays."""
    return _LOOSE.sub("", " ".join(text.split()))


def squeeze_short(text: str) -> str:
    """A text as its own canonical form: without white space, and a long one cut but still told apart."""
    return _cut(squeeze(text))


def _cut(text: str) -> str:
    if len(text) <= _MAX_SPELLED:
        return text
    return text[:_MAX_SPELLED] + "#" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _same_number(answer: str, reference: str) -> bool | None:
    given, expected = quantity_of(answer), quantity_of(reference)
    if given is None or expected is None or ("=" in answer and "=" in reference):
        return None
    if "percent" in (given.unit, expected.unit) and given.unit != expected.unit:
        return None
    if given.value == expected.value:
        return same_unit(expected.unit, given.unit)
    return None if _GROUPED.search(answer + " " + reference) else False


def _same_listed(answer: str, reference: str) -> bool | None:
    given, expected = _plain_list(answer), _plain_list(reference)
    if given is None or expected is None or given[0] != expected[0]:
        return None
    return given == expected


def _plain_list(text: str) -> tuple[str, list[Fraction]] | None:
    r"""Bracket and numbers of ``\{1, 2\}`` (sorted: a set) or ``(1, 2)``; None for anything else."""
    if len(text) > _MAX_LISTED_CHARACTERS:
        return None
    for opening, closing in _LISTS:
        if text.startswith(opening) and text.endswith(closing):
            values = [parse_number(item) for item in text[len(opening) : -len(closing)].split(",")]
            numbers = [value for value in values if value is not None]
            if len(numbers) != len(values):
                return None
            return opening, sorted(set(numbers)) if opening == "\\{" else numbers
    return None


def _same_name(answer: str, reference: str) -> bool:
    """Names and words are the same in any case; letters of formulas are not."""
    expected, given = words_in(tidy(reference)), words_in(tidy(answer))
    if squeeze(expected) == squeeze(given):
        return True
    if not _NAME.fullmatch(expected) or expected.casefold() != given.casefold():
        return False
    return "\\text" in reference or len(expected) > 3


def _same_tree(answer: str, reference: str) -> bool | None:
    if refusal(answer) or refusal(reference):
        return None
    outcome: bool | None = None
    for grouped in (True, False) if _GROUPED.search(answer + " " + reference) else (True,):
        expected, given = read(reference, grouped=grouped), read(answer, grouped=grouped)
        if expected is not None and given is not None:
            outcome = compare(expected, given, EXACT)
        if outcome is not False:
            return outcome
    return outcome


def _spell(node: Node) -> str:
    if is_expression(node):
        try:
            return spell(form_of(node))
        except NoFormError:
            pass
    parts = [_spell(part) for part in node.parts]
    match node.kind:
        case "number":
            return spell_fraction(node.value)
        case "symbol" | "words":
            return node.name
        case "group":
            return f"{node.name[0]}{', '.join(parts)}{node.name[1]}"
        case "set" | "list":
            return f"{{{', '.join(sorted(set(parts)))}}}"
        case "relation":
            return parts[-1] if node.name == "=" and node.parts[0].kind == "symbol" else f" {node.name} ".join(parts)
        case "quantity":
            return parts[0]
        case "based":
            return f"{node.value}_{node.name}"
        case "ratio":
            return ":".join(parts)
    return f"{node.name or node.kind}({', '.join(parts)})"
