"""The repetition penalty of "Demystifying Long Chain-of-Thought" (arXiv 2502.03373, appendix C.2), by n-grams.

As open-r1 has it (``get_repetition_penalty_reward``): over the whole answer, where the paper penalizes the tokens of
each repeated n-gram. ``score = max_penalty * (1 - distinct n-grams / n-grams)``.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Literal

from rewards.arguments import check_choice, check_whole
from rewards.base import InlineVerifier
from rewards.verdict import Question, Status, Verdict

Language = Literal["en", "zh"]
LANGUAGES = ("en", "zh")
MAX_NGRAM_SIZE = 64
MAX_WORDS = 50_000  # of an answer that are looked at, more than any model writes


class RepetitionVerifier(InlineVerifier):
    """0 where no n-gram occurs twice, towards ``max_penalty`` the fewer of them are new. Linear in the text.

    Words are what stands between white space, in lower case (``language: en``), or single characters without white
    space, for a language that puts none between words (``language: zh``; open-r1 asks a segmenter there). An answer
    of fewer than n words scores 0.

    >>> repetition = RepetitionVerifier(ngram_size=2, max_penalty=-1.0)
    >>> repetition.verify("so it is so it is", Question(text="", reference="")).score
    -0.4
    """

    name = "repetition"

    def __init__(self, *, ngram_size: int = 3, max_penalty: float = -1.0, language: str = "en") -> None:
        """``max_penalty``: the score that an endless repetition approaches, at most 0.

        Raises:
            ValueError: one of them is out of range; the message says which.
        """
        check_whole("ngram_size", ngram_size, 1, MAX_NGRAM_SIZE)
        is_number = isinstance(max_penalty, int | float) and not isinstance(max_penalty, bool)
        if not is_number or not -math.inf < max_penalty <= 0:
            raise ValueError(f"max_penalty = {max_penalty!r}: a finite number, at most 0, is needed")
        check_choice("language", language, LANGUAGES)
        self.ngram_size = ngram_size
        self.max_penalty = float(max_penalty)
        self.language = language

    def verify(self, completion: str, question: Question) -> Verdict:
        words = completion.lower().split()
        units = words if self.language == "en" else list("".join(words))
        repeated = repeated_share(units[:MAX_WORDS], self.ngram_size)
        score = round(self.max_penalty * repeated, 12) + 0.0  # never -0.0
        return Verdict(score=score, status=Status.WRONG if repeated else Status.CORRECT)


def repeated_share(words: Sequence[str], size: int) -> float:
    """The share of the n-grams of ``size`` words that are repetitions of an earlier one.

    >>> repeated_share(["a", "b", "a", "b", "a"], 2)
    0.5
    """
    total = len(words) - size + 1
    if total < 1:
        return 0.0
    numbers: dict[str, int] = {}
    spelled = [numbers.setdefault(word, len(numbers)) for word in words]
    ngrams = zip(*(islice(spelled, start, None) for start in range(size)), strict=False)
    # Hashes in place of n-grams: 50,000 tuples of 64 words would take 30 MB. Those of tuples of whole numbers are
    # the same in every process.
    return 1.0 - len({hash(ngram) for ngram in ngrams}) / total
