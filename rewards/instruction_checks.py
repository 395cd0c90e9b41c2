"""The 25 verifiable instructions of IFEval (arXiv 2311.07911, table 1), each as a function of text and arguments.

By the ids, argument names and readings of the published benchmark, so that scores compare with it; where the paper's
words leave something open (what a bullet is, what a keyword matches), the reading is that of its own evaluation.
Keywords are matched as text, never as patterns. Every check is linear in the text. Language and sentences are told
by ``scripts`` and ``sentences``, where the benchmark takes trained models.
"""

import json
import re
from collections.abc import Callable, Mapping

from rewards.scripts import LANGUAGES, language_of
from rewards.sentences import num_sentences, num_words

Arguments = Mapping[str, object]
RELATIONS = ("less than", "at least")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]*\]")
_HIGHLIGHT = re.compile(r"\*([^\n*]*)\*")
_BOLD = re.compile(r"\*\*([^\n*]*)\*\*")
_STARS = re.compile(r"\s?\*\*\*\s?")
_CAPITAL_WORD = re.compile(r"[^\W_]+(?:[-.&/][^\W_]+)*")
_FENCE = re.compile(r"```(?:json)?", re.IGNORECASE)
_POSTSCRIPTS = {"P.S.": re.compile(r"p\.\s?s\."), "P.P.S": re.compile(r"p\.\s?p\.\s?s")}
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_ENDS_WORD = ".,?!'\""


class ArgumentError(ValueError):
    """The dataset gives an instruction an argument that it cannot have, or leaves one out. Names the argument."""


def _keywords_existence(text: str, args: Arguments) -> bool:
    lowered = text.lower()
    return all(keyword.lower() in lowered for keyword in _texts(args, "keywords"))


def _keyword_frequency(text: str, args: Arguments) -> bool:
    return _compares(args, "relation", text.lower().count(_text(args, "keyword").strip().lower()), "frequency")


def _forbidden_words(text: str, args: Arguments) -> bool:
    patterns = (rf"\b{re.escape(word)}\b" for word in _texts(args, "forbidden_words"))
    return not any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns)


def _letter_frequency(text: str, args: Arguments) -> bool:
    letter = _text(args, "letter").strip().lower()
    if len(letter) != 1:
        raise ArgumentError(f"letter = {letter!r}: a single character is needed")
    return _compares(args, "let_relation", text.lower().count(letter), "let_frequency")


def _response_language(text: str, args: Arguments) -> bool:
    language = _text(args, "language").lower().split("-")[0]
    if language not in LANGUAGES:
        raise ArgumentError(f"language = {language!r}: allowed are {', '.join(LANGUAGES)}")
    return language_of(text) in (language, None)


def _number_sentences(text: str, args: Arguments) -> bool:
    return _compares(args, "relation", num_sentences(text), "num_sentences")


def _number_words(text: str, args: Arguments) -> bool:
    return _compares(args, "relation", num_words(text), "num_words")


def _number_paragraphs(text: str, args: Arguments) -> bool:
    """Paragraphs are divided by ``***``; an empty one is allowed before the first and after the last."""
    paragraphs = _STARS.split(text)
    if not all(paragraph.strip() for paragraph in paragraphs[1:-1]):
        return False
    return sum(1 for paragraph in paragraphs if paragraph.strip()) == _number(args, "num_paragraphs")


def _nth_paragraph_first_word(text: str, args: Arguments) -> bool:
    """Paragraphs are divided by two line breaks."""
    paragraphs = text.split("\n\n")
    nth = _number(args, "nth_paragraph")
    num_paragraphs = sum(1 for paragraph in paragraphs if paragraph.strip())
    if not 1 <= nth <= num_paragraphs or num_paragraphs != _number(args, "num_paragraphs"):
        return False
    words = paragraphs[nth - 1].split(maxsplit=1)
    return bool(words) and _bare(words[0]) == _text(args, "first_word").lower()


def _number_placeholders(text: str, args: Arguments) -> bool:
    return sum(1 for _ in _PLACEHOLDER.finditer(text)) >= _number(args, "num_placeholders")


def _postscript(text: str, args: Arguments) -> bool:
    marker = _text(args, "postscript_marker").strip()
    pattern = _POSTSCRIPTS.get(marker)
    lowered = text.lower()
    return marker.lower() in lowered if pattern is None else pattern.search(lowered) is not None


def _number_bullet_lists(text: str, args: Arguments) -> bool:
    return sum(_is_bullet(line.lstrip()) for line in text.split("\n")) == _number(args, "num_bullets")


def _constrained_response(text: str, args: Arguments) -> bool:
    return any(choice in text for choice in _CHOICES)


def _number_highlighted_sections(text: str, args: Arguments) -> bool:
    spans = [match.group(1) for pattern in (_HIGHLIGHT, _BOLD) for match in pattern.finditer(text)]
    return sum(1 for span in spans if span.strip()) >= _number(args, "num_highlights")


def _multiple_sections(text: str, args: Arguments) -> bool:
    heading = re.compile(re.escape(_text(args, "section_spliter").strip()) + r"\s?\d")
    return sum(1 for _ in heading.finditer(text)) >= _number(args, "num_sections")


def _json_format(text: str, args: Arguments) -> bool:
    text = text.strip()
    fence = _FENCE.match(text)
    if fence:
        text = text[fence.end() :]
    try:
        json.loads(text.strip().removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, args: Arguments) -> bool:
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end and line[start:end].strip("<> \t"):
            return True
    return False


def _two_responses(text: str, args: Arguments) -> bool:
    """Two different answers, divided by six asterisks."""
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    return all(parts[1:-1]) and len(answers) == 2 and answers[0] != answers[1]


def _repeat_prompt(text: str, args: Arguments) -> bool:
    return text.strip().lower().startswith(_text(args, "prompt_to_repeat").strip().lower())


def _end_checker(text: str, args: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(_text(args, "end_phrase").strip().lower())


def _quotation(text: str, args: Arguments) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_word_frequency(text: str, args: Arguments) -> bool:
    count = sum(1 for word in _CAPITAL_WORD.finditer(text) if word.group().isupper())
    return _compares(args, "capital_relation", count, "capital_frequency")


def _english_capital(text: str, args: Arguments) -> bool:
    return text.isupper() and language_of(text) in ("en", None)


def _english_lowercase(text: str, args: Arguments) -> bool:
    return text.islower() and language_of(text) in ("en", None)


def _no_comma(text: str, args: Arguments) -> bool:
    return "," not in text


CHECKS: dict[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": _keywords_existence,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _response_language,
    "length_constraints:number_sentences": _number_sentences,
    "length_constraints:number_paragraphs": _number_paragraphs,
    "length_constraints:number_words": _number_words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph_first_word,
    "detectable_content:number_placeholders": _number_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _number_bullet_lists,
    "detectable_format:constrained_response": _constrained_response,
    "detectable_format:number_highlighted_sections": _number_highlighted_sections,
    "detectable_format:multiple_sections": _multiple_sections,
    "detectable_format:json_format": _json_format,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end_checker,
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": _capital_word_frequency,
    "change_case:english_capital": _english_capital,
    "change_case:english_lowercase": _english_lowercase,
    "punctuation:no_comma": _no_comma,
}


def _is_bullet(line: str) -> bool:
    """A line, without its indent, that opens with ``-`` or a single ``*``."""
    return line.startswith("-") or (len(line) > 1 and line[0] == "*" and line[1] != "*")


def _bare(word: str) -> str:
    """A word without quotation marks before it, and cut at its first punctuation."""
    word = word.lstrip("'\"").lower()
    end = next((place for place, letter in enumerate(word) if letter in _ENDS_WORD), len(word))
    return word[:end]


def _compares(args: Arguments, relation_key: str, count: int, number_key: str) -> bool:
    relation, number = _text(args, relation_key), _number(args, number_key)
    if relation not in RELATIONS:
        raise ArgumentError(f"{relation_key} = {relation!r}: allowed are {', '.join(RELATIONS)}")
    return count < number if relation == "less than" else count >= number


def _number(args: Arguments, key: str) -> int:
    value = args.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers with gaps is read as floats
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentError(f"{key} = {value!r}: a whole number is needed")
    return value


def _text(args: Arguments, key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ArgumentError(f"{key} = {value!r}: a text is needed")
    return value


def _texts(args: Arguments, key: str) -> list[str]:
    value = args.get(key)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) and item for item in value):
        raise ArgumentError(f"{key} = {value!r}: a list of texts is needed")
    return list(value)
