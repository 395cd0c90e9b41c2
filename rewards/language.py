r"""Language consistency: the share of the reasoning's words that are in the language asked for.

DeepSeek-R1's reward against mixing languages (arXiv 2501.12948, section 2.3.2): "the proportion of target language
words in the chain of thought". Words are told by script (``rewards/scripts.py``), so the reward tells English from
Chinese, Japanese, Korean, Russian, Arabic or Hindi, and does not tell English from French: a language stands for all
languages of its script. Each letter of a script without spaces (Han, kana, Thai) counts as a word. Numbers, signs and
single Latin or Greek letters (x, a) count as nothing.
"""

import re

from rewards.arguments import check_choice
from rewards.base import InlineVerifier
from rewards.scripts import LANGUAGES, MAX_CHARACTERS, Words, count_words, share_by_script
from rewards.verdict import Question, Status, Verdict

PARTS = ("reasoning", "whole")
_NOTATION = (("```", "```"), ("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("`", "`"), ("$", "$"))
_SKIPPED = re.compile(r"\\[A-Za-z]+|</?[a-z]{1,20}>|https?://\S+")  # LaTeX commands, tags, addresses
_SYMBOL = re.compile(r"(?<![A-Za-z'])[A-Za-z\u0370-\u03ff](?![A-Za-z'\u0370-\u03ff])")  # a letter alone: x, or a
_IN_EVERY_LANGUAGE = re.compile("[A-Za-z\u0370-\u03ff]+")  # what formulas and programs are written with


class LanguageVerifier(InlineVerifier):
    r"""The share, from 0 to 1, of words in the script of ``language``; 0 where there are no words.

    Math (``$..$``, ``\(..\)``, ``\[..\]``), code (fenced or between backticks), LaTeX commands, tags and web addresses
    are notation: their Latin and Greek letters count in no language. Other letters in them do, so nothing is gained
    by writing Chinese between dollar signs. Linear in the text, of which the first 100,000 characters are looked at.

    >>> language = LanguageVerifier(language="en")
    >>> language.verify("so we add $x_1$ 两 个 </think> 4", Question(text="", reference="")).score
    0.6
    """

    name = "language"

    def __init__(self, *, language: str = "en", part: str = "reasoning") -> None:
        """``part``: reasoning (up to the last ``</think>``; all of it where there is none) or whole.

        Raises:
            ValueError: ``language`` or ``part`` is none of those there are.
        """
        check_choice("language", language, LANGUAGES)
        check_choice("part", part, PARTS)
        self.language = language
        self.part = part

    def verify(self, completion: str, question: Question) -> Verdict:
        reasoning, found, _ = completion.rpartition("</think>")
        text = reasoning if found and self.part == "reasoning" else completion
        words = prose_words(text)
        if not words.total:
            return Verdict(score=0.0, status=Status.WRONG, reason="no words")
        score = share_by_script(words).get(LANGUAGES[self.language], 0.0)
        reason = "" if score == 1.0 else f"words by script: {dict(words.by_script.most_common(3))}"
        return Verdict(score=score, status=Status.CORRECT if score == 1.0 else Status.WRONG, reason=reason)


def prose_words(text: str) -> Words:
    """The words of ``text`` without its notation."""
    text = text[:MAX_CHARACTERS]
    for opening, closing in _NOTATION:
        text = _without_notation(text, opening, closing)
    return count_words(_SYMBOL.sub(" ", _SKIPPED.sub(" ", text)))


def _without_notation(text: str, opening: str, closing: str) -> str:
    """Latin and Greek letters between the delimiters taken out. What is opened and never closed is prose."""
    parts = []
    done = 0
    while (start := text.find(opening, done)) >= 0:
        inside = start + len(opening)
        end = text.find(closing, inside)
        if end < 0:
            break
        parts += [text[done:start], _IN_EVERY_LANGUAGE.sub(" ", text[inside:end])]
        done = end + len(closing)
    return " ".join([*parts, text[done:]])
