"""Which language a text is in, by the scripts of its letters and, within a script, by its commonest words.

A script tells Chinese, Japanese, Korean, Thai, Greek, Hebrew and most languages of India. Languages that share one
(Latin, Cyrillic, Arabic, Devanagari) are told apart by function words and by letters that only one of them has.
Limits: a text of few words may say nothing (None, never a guess); languages outside ``LANGUAGES`` are taken for the
nearest inside, or for none; Serbian in Cyrillic, dialects and romanized text are not told.
"""

import re
from collections import Counter
from dataclasses import dataclass

MAX_CHARACTERS = 100_000  # of a text that are looked at

_RANGES = {
    "latin": "A-Za-zªºÀ-ÖØ-öø-ʯ\u1e00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff\uff21-\uff3a\uff41-\uff5a",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "cyrillic": "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
    "hebrew": "\u05d0-\u05f4",
    "arabic": "\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0750-\u077f\u08a0-\u08ff"
    "\ufb50-\ufdff\ufe70-\ufefc",
    "devanagari": "\u0900-\u0963\u0971-\u097f",
    "bengali": "\u0980-\u09e3\u09f0-\u09ff",
    "gurmukhi": "\u0a01-\u0a5e\u0a70-\u0a76",
    "gujarati": "\u0a81-\u0ae3\u0af0-\u0aff",
    "tamil": "\u0b82-\u0be3",
    "telugu": "\u0c00-\u0c63",
    "kannada": "\u0c80-\u0ce3",
    "malayalam": "\u0d00-\u0d63",
    "thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
    "hangul": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7af",
    "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d",
    "han": "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
}
UNSPACED = ("han", "kana", "thai")  # no spaces between words: each character counts as one
SCRIPTS = tuple(_RANGES)
_REST = "[{}\u0300-\u036f'’\u200c\u200d]*"  # with combining accents, apostrophes and joiners
_WORD = re.compile(
    "|".join(
        f"(?P<{script}>[{letters}]{'+' if script in UNSPACED else _REST.format(letters)})"
        for script, letters in _RANGES.items()
    )
)

LANGUAGES: dict[str, str] = {  # ISO 639-1 code -> script; Japanese and Chinese: see language_of
    **dict.fromkeys(["en", "es", "pt", "fr", "de", "it", "nl", "pl", "vi", "fi", "sw", "tr", "id"], "latin"),
    **dict.fromkeys(["ru", "uk", "bg"], "cyrillic"),
    **dict.fromkeys(["ar", "fa", "ur"], "arabic"),
    **dict.fromkeys(["hi", "mr", "ne"], "devanagari"),
    **{"el": "greek", "he": "hebrew", "bn": "bengali", "pa": "gurmukhi", "gu": "gujarati", "ta": "tamil"},
    **{"te": "telugu", "kn": "kannada", "ml": "malayalam", "th": "thai", "ko": "hangul", "ja": "kana", "zh": "han"},
}

_FUNCTION_WORDS = """
en: the of and to in is that it for was on are as with be this have from or by not you which at i we they has
es: el la de que y en los del se las por un para con no una su al es lo como más pero sus le ya o este muy está
pt: o a de que e do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu ou é são você
fr: le la les de des et en un une du est que dans pour qui sur pas plus par avec ce il au sont ne se cette vous à
de: der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er ich
it: il di che e la in un per del non una si con da i le è dei al sono gli della nel più anche come ma alla lo questo
nl: de het een en van in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit door naar heeft ik
pl: i w na nie z się do to jest że o jak za co od po tak przez dla są być ale tym czy oraz które jako może ich ma
vi: và của là có được các cho trong không một người với những để đã khi này từ đến như về ra cũng vào bạn tôi sẽ
fi: ja on ei se että oli hän mutta ovat kun niin myös tai kuin joka sen olla jos ole mitä tämä voi ne minun hyvin
sw: ya na wa kwa ni katika la za cha kama hii pia hiyo lakini watu au ili yake huo sana kuwa vya wao moja hata mtu
tr: ve bir bu da de için ile çok olarak daha gibi olan en ne kadar sonra ama değil var mi o ki ben her şey ise veya
id: yang dan di dengan untuk tidak ini dari dalam akan pada juga ke karena itu adalah ada saya mereka oleh bisa atau
ru: и в не на что с по это как к но его из от за для так все она он у же был они мы вы или бы если то я когда
uk: і в не на що з по це як до але його та за для так все вона він у був вони ми ви або якщо то я від є при щоб
bg: и в не на че с по това как за но от се са да е тя той у беше те ние вие или ако то аз когато до със ще който
ar: في من على إلى أن هذا التي عن مع هذه كان الذي ما لا ذلك بين كل هو هي أو كما لم قد بعد إذا
fa: در به از که این را با است برای آن یک می خود تا کرد بر هم نیز شده ما شما اما یا باشد های هر من
ur: کے میں کی ہے اور سے کا کو اس نے پر ہیں کہ یہ بھی ایک تھا وہ نہیں کر گیا لیے ہو تو جو آپ
hi: के में की है और से का को इस ने पर हैं कि यह भी एक था वह नहीं कर गया लिए हो तो जो आप मैं या
mr: आहे आणि या मध्ये हे ते की तो नाही होते च्या ला एक आहेत व आपण मी काही हा ही केले त्या साठी असे पण
ne: छ र को मा हो छन् पनि यो लाई गर्न भने एक ले तथा हुन्छ गरेको थियो त्यो बाट हामी म के तपाईं यस थिए
"""
_WORDS = {
    language: frozenset(words.split())
    for language, _, words in (line.partition(":") for line in _FUNCTION_WORDS.strip().splitlines())
}
_OWN_LETTERS = {  # letters that one language of its script has and the others have not, or hardly
    "uk": "іїєґ",
    "ru": "ыэё",
    "ur": "ٹڈڑےںہھ",
    "vi": "ơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
    "pl": "łąężśźćń",
    "de": "ß",
    "es": "ñ",
    "mr": "ळ",
}
_MIN_EVIDENCE = 2  # function words that a language needs
_MIN_SHARE = 0.5  # of a text's words that must be of the script


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text, counted by script, and those themselves whose languages share a script.

    >>> count_words("two мира 二つ").by_script == {"latin": 1, "cyrillic": 1, "han": 1, "kana": 1}
    True
    """

    by_script: Counter[str]
    spelled: Counter[str]

    @property
    def total(self) -> int:
        return self.by_script.total()


def count_words(text: str) -> Words:
    """Every word of ``text`` under its script. Digits, signs and letters of other scripts count as nothing."""
    by_script: Counter[str] = Counter()
    spelled: Counter[str] = Counter()
    for match in _WORD.finditer(text[:MAX_CHARACTERS]):
        script = match.lastgroup or ""
        if script in UNSPACED:
            by_script[script] += match.end() - match.start()
        else:
            by_script[script] += 1
            spelled[match.group().strip("'’").lower()] += 1
    return Words(by_script, spelled)


def language_of(text: str) -> str | None:
    """ISO 639-1 code of the language that most of ``text`` is in, None where that cannot be told.

    >>> language_of("The cat sat on the mat and it was happy."), language_of("Le chat est sur la table et il dort.")
    ('en', 'fr')
    >>> language_of("猫がマットの上に座った。"), language_of("42 + 17")
    ('ja', None)
    """
    words = count_words(text)
    shares = share_by_script(words)
    if not shares:
        return None
    script = max(shares, key=lambda name: shares[name])
    if shares[script] < _MIN_SHARE:
        return None
    sharing = [language for language, own in LANGUAGES.items() if own == script]
    return sharing[0] if len(sharing) == 1 else _nearest(words, sharing)


def share_by_script(words: Words) -> dict[str, float]:
    """The share of all words in each script. Han letters beside kana are Japanese, hence counted as kana."""
    counts = Counter(words.by_script)
    if counts["kana"] and counts["kana"] * 9 >= counts["han"]:  # a tenth: Chinese that quotes a kana stays Chinese
        counts["kana"] += counts.pop("han", 0)
    return {script: count / words.total for script, count in counts.items() if count}


def _nearest(words: Words, languages: list[str]) -> str | None:
    evidence = {language: _evidence(words, language) for language in languages}
    first, second = sorted(evidence, key=lambda language: -evidence[language])[:2]
    if evidence[first] < _MIN_EVIDENCE or evidence[first] == evidence[second]:
        return None
    return first


def _evidence(words: Words, language: str) -> int:
    """Function words of the language in the text, and words with a letter of its own."""
    own = frozenset(_OWN_LETTERS.get(language, ""))
    known = _WORDS[language]
    return sum(count for word, count in words.spelled.items() if word in known or not own.isdisjoint(word))
