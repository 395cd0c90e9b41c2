r"""One spelling for the many ways that the same mathematics is typed: the first step before parsing.

Unicode signs become LaTeX commands, commands that only set type are dropped, and synonyms become one. Every step
is a single pass, linear in the length of the text. Nothing here judges whether the text is mathematics.
"""

import re

from rewards.number import strip_markup

_SIGNS = {
    **{"√": r"\sqrt ", "∛": r"\sqrt[3]", "π": r"\pi ", "∞": r"\infty ", "×": "*", "·": "*", "⋅": "*", "∗": "*"},
    **{"÷": "/", "⁄": "/", "∕": "/", "\u2212": "-", "–": "-", "—": "-", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne "},
    **{"⩽": r"\le ", "⩾": r"\ge ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "°": r"^\circ ", "º": r"^\circ "},
    **{"±": r"\pm ", "∓": r"\mp ", "…": r"\ldots ", "ℝ": r"\mathbb{R}", "∅": r"\emptyset ", "⟨": "(", "⟩": ")"},
    **{"θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "μ": r"\mu "},
    **{"φ": r"\phi ", "ω": r"\omega ", "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4"},
    **{"⅕": " 1/5", "⅛": " 1/8", "’": "'", "′": "'", "\u200b": "", "\ufeff": "", "%": r"\%"},
}
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")

_SYNONYMS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("textrm", "textbf", "textit", "textsf", "texttt", "mbox", "mathrm", "mathbf", "mathit"), r"\text"),
    **dict.fromkeys(("operatorname", "boldsymbol", "bold", "textnormal", "mathsf", "emph", "hbox"), r"\text"),
    **dict.fromkeys(("neq", "ne"), r"\ne "),
    **dict.fromkeys(("leq", "le", "leqslant", "leqq"), r"\le "),
    **dict.fromkeys(("geq", "ge", "geqslant", "geqq"), r"\ge "),
    **dict.fromkeys(("lt",), "<"),
    **dict.fromkeys(("gt",), ">"),
    **dict.fromkeys(("times", "cdot", "ast"), "*"),
    **dict.fromkeys(("div",), "/"),
    **dict.fromkeys(("dots", "cdots", "ldots", "dotsc", "dotsb"), r"\ldots "),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    **dict.fromkeys(("langle",), "("),
    **dict.fromkeys(("rangle",), ")"),
    **dict.fromkeys(("lbrace",), r"\{"),
    **dict.fromkeys(("rbrace",), r"\}"),
    **dict.fromkeys(("lparen",), "("),
    **dict.fromkeys(("rparen",), ")"),
    **dict.fromkeys(("lbrack",), "["),
    **dict.fromkeys(("rbrack",), "]"),
    **dict.fromkeys(("colon",), ":"),
    **dict.fromkeys(("degree", "degrees"), r"^\circ "),
    **dict.fromkeys(("varnothing",), r"\emptyset "),
    **dict.fromkeys(("reals", "R"), r"\mathbb{R}"),
    **dict.fromkeys(("mathbb",), r"\mathbb"),
    **dict.fromkeys(("land", "wedge"), r"\text{and}"),
    **dict.fromkeys(("lor", "vee"), r"\text{or}"),
    **dict.fromkeys(("boxed", "fbox"), ""),
    **dict.fromkeys(
        ("left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr"), ""
    ),
    **dict.fromkeys(("displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "mathstrut", "strut"), ""),
    **dict.fromkeys(("quad", "qquad", "hfill", "hspace", "space", "thinspace", "enspace"), " "),
}
_COMMAND = re.compile(r"\\(?:left|right) ?\.|\\([A-Za-z]+) ?|\\([,;:! ])|~|\\\\")
_FENCES = {r"\(": r"\)", r"\[": r"\]", "$": "$", "$$": "$$"}
_TEXT = re.compile(r"\\text\s?\{([^{}]*)\}")
_WORDY = r"[A-Za-z'’\- ,]{0,80}?"
_INTRODUCTION_TEXT = (
    "so thus hence therefore then finally we you i get have obtain find found it this that which must will be is are "
    "the an our my your final correct required desired requested resulting answer answers solution solutions result "
    "value values total sum product difference number count amount quantity probability ratio remainder average mean "
    "median mode area volume perimeter length width height radius diameter distance time speed rate cost price angle "
    "measure slope equation expression function minimum maximum smallest largest greatest least possible positive "
    "integer ways way of for in to problem question equals equal original given side triangle circle square rectangle "
    "coordinates point day numerator denominator coefficient simplified simplifies form range domain interval set "
    "these those all real option choice letter"
)
_INTRODUCTION = frozenset(_INTRODUCTION_TEXT.split())
_PREFIX = re.compile(rf"(?:{_WORDY}\b(?:is|are|equals|be|get|have)|(?:the |final |correct )*answer)\s?[:=]?\s", re.I)
_COLON_PREFIX = re.compile(rf"(?=[A-Za-z]{{4}}){_WORDY}[:=]\s", re.I)
_ABOUT = re.compile(r"~ ?[0-9.+\-]")  # "about", not the space that LaTeX writes so
_DERIVED = re.compile(r"\bof (?:(?:the|this|our|my|final|correct) ){0,4}(?:answer|result|solution|it|this)\b", re.I)
_CONNECTIVE = re.compile(r"(?:so|thus|hence|therefore|then)\b[, ]*", re.I)
_DISPLAYED = re.compile(
    r"\\(?:text)?color ?\{[A-Za-z]{1,20}\} ?(?=\{)|\\underline(?: ?(?=\{))|\s?(?:\\checkmark(?![A-Za-z])|[✓✔✅])"
)
_DOTTED = re.compile(r"\\dot ?\{?([0-9])\}?([0-9]{0,28})\\dot ?\{?([0-9])\}?")
_US_DOLLARS = re.compile(r"^(?:US\\?\$|USD ?)(?=[0-9])")
_JOINED_UNIT = re.compile(r"^([+-]?[0-9][0-9.,]{0,20})(kg|km|cm|mm|mg|ml|mL|mph|kmh|lbs?|hrs?|ft)$")
_PLAIN_SET = re.compile(r"^\{([^{}\\]{1,400},[^{}\\]{1,400})\}$")
_SPOKEN_RATIO = re.compile(r"^([0-9]{1,9}) to ([0-9]{1,9})$")
_EXCLAIMED = re.compile(r"(?<=[A-Za-z]{3})!$")  # "Yes!", not the factorial of n
_INLINE = re.compile(r"\$(?=\S)([^$]{1,200}?)(?<=\S)\$(?![0-9])")  # $x$, but not the amounts of "$5 and $6"
_BOLD = re.compile(r"\*\*(?=\S)([^*]{1,200})(?<=\S)\*\*(?![0-9A-Za-z(])")


def tidy(text: str) -> str:
    r"""``text`` in the one spelling that the grammar reads.

    >>> tidy(r"$\left(\dfrac12,\,\mathrm{e}\right)$"), tidy("The answer is 3√5.")
    ('(\\frac12, \\text{e})', '3\\sqrt 5')
    """
    text = _unfence(_DISPLAYED.sub("", strip_markup(text)))
    text = _DOTTED.sub(r"\\overline{\1\2\3}", text.replace("{smallmatrix}", "{matrix}"))
    text = _US_DOLLARS.sub(r"\\$", _JOINED_UNIT.sub(r"\1 \2", _PLAIN_SET.sub(r"\\{\1\\}", text)))
    text = _EXCLAIMED.sub("", _SPOKEN_RATIO.sub(r"\1:\2", text))
    text = _RAISED_RUN.sub(lambda run: "^{" + "".join(map(_RAISED.__getitem__, run.group())) + "}", text)
    text = _LOWERED_RUN.sub(lambda run: "_{" + "".join(map(_LOWERED.__getitem__, run.group())) + "}", text)
    text = "".join([_SIGNS.get(sign, sign) for sign in text]).replace(r"\\%", r"\%")
    if _ABOUT.match(text):
        text = r"\sim " + text[1:]
    text = _BOLD.sub(r"\1", _INLINE.sub(r"\1", _COMMAND.sub(_respell, text)))
    text = " ".join(text.replace("**", "^").split())
    text = text.replace("...", r"\ldots ").rstrip(" .,;:")
    return _unfence(_strip_words(text.removeprefix("=")).strip())


def is_wordy(text: str) -> bool:
    r"""Whether a tidy text holds plain words outside ``\text``: prose, which no parser of formulas may read."""
    bare = _TEXT.sub(" ", _COMMAND.sub(" ", text))
    return any(len(word) > 3 and word.lower() not in _KNOWN_WORDS for word in re.findall(r"[A-Za-z]+", bare))


_KNOWN_WORDS_TEXT = (
    "sqrt cbrt sinh cosh tanh asin acos atan arcsin arccos arctan infty infinity theta alpha beta gamma lambda "
    "delta frac binom pmatrix bmatrix vmatrix matrix cases array begin text floor ceil log2 log10"
)
_KNOWN_WORDS = frozenset(_KNOWN_WORDS_TEXT.split())


def words_in(text: str) -> str:
    r"""The text with every ``\text{...}`` opened, white space squeezed: what names and sentences are compared by."""
    return " ".join(_TEXT.sub(r"\1", text).split()).strip(" .")


def _respell(match: re.Match[str]) -> str:
    name, spacing = match.group(1), match.group(2)
    if name is None and match.group().endswith("."):  # an invisible bracket
        return ""
    if name is None:
        return match.group() if match.group() == r"\\" else "" if spacing == "!" else " "
    return _SYNONYMS.get(name, match.group())


def _unfence(text: str) -> str:
    for opening, closing in _FENCES.items():
        inner = text[len(opening) : -len(closing)]
        if inner and text.startswith(opening) and text.endswith(closing) and opening not in inner:
            return inner.strip()
    return text


def _strip_words(text: str) -> str:
    r"""Without an introduction such as ``The answer is`` or ``\text{Area: }``, which must not hedge."""
    opened = text
    if text.startswith(r"\text"):
        first = _TEXT.match(text)
        if first is not None and re.search(r"(?:\bis|\bare|=|:)\s*$", first.group(1)):
            opened = f"{first.group(1).strip()} {text[first.end() :]}"
    connective = _CONNECTIVE.match(opened)
    start = connective.end() if connective else 0
    for pattern in (_PREFIX, _COLON_PREFIX):
        prefix = pattern.match(opened, start)
        if prefix is not None and _is_introduction(prefix.group()):
            return opened[prefix.end() :].strip(" :=$")
    return opened[start:] if connective else text


def _is_introduction(words: str) -> bool:
    """Whether all its words are neutral ones, or single letters that name a quantity: other words may deny,
    bound or rework the value that follows."""
    named = re.findall(r"[A-Za-z'’]+", words)
    if _DERIVED.search(words):  # the square of the answer
        return False
    return all(word.lower() in _INTRODUCTION or len(word) == 1 for word in named)
