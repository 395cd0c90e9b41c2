r"""Units of measure behind a number: which words are one, and which two mean the same.

Three kinds of word may follow a number. A known unit, in any of its spellings, is compared where both sides name
one. Other things that are counted (``5 apples``, ``5 red apples``, ``5 children``) are accepted and not compared: the
last of the words, or the one before ``of``, must be a noun in the plural. Whatever else makes the whole text no number:
``18 but it may be twelve``, ``18 thousands``, ``18 presumably`` and ``18 guess`` are not 18.
"""

import re

_SPELLINGS = """
degree: degree degrees deg ° º
percent: percent percents percentage pct %
dollar: dollar dollars usd $ bucks
cent: cent cents ¢
euro: euro euros €
pound_sterling: £
yen: ¥ yen
mm: mm millimeter millimeters millimetre millimetres
cm: cm centimeter centimeters centimetre centimetres
m: m meter meters metre metres
km: km kilometer kilometers kilometre kilometres
in: inch inches in
ft: ft foot feet
yd: yd yard yards
mi: mi mile miles
unit: unit units
s: s sec secs second seconds
min: min mins minute minutes
h: h hr hrs hour hours
day: day days
week: week weeks
month: month months
year: year years yr yrs
mg: mg milligram milligrams
g: g gram grams
kg: kg kilogram kilograms
lb: lb lbs pound pounds
oz: oz ounce ounces
ml: ml mL milliliter milliliters
l: l L liter liters litre litres
gal: gallon gallons gal
mph: mph
km/h: kmh kph
rad: rad radian radians
hz: Hz hertz
j: J joule joules
n: N newton newtons
w: W watt watts
v: V volt volts
bit: bit bits
byte: byte bytes
"""
_CANONICAL = {
    spelling: line.split(":")[0] for line in _SPELLINGS.strip().splitlines() for spelling in line.split(":")[1].split()
}
_POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}
_DIVISIONS = {"per": "/", "/": "/", "an": "", "a": "", "of": ""}
_NO_UNITS_TEXT = """
    or and not to through versus vs nor either neither maybe possibly probably perhaps likely plus minus times over
    factorial hundred thousand million billion trillion dozen half quarter third i e pi x y z is are was were be been
    being am may might could would should can will shall must do does did but if then else unless except though
    although however because since so thus hence therefore it this that these those there here they he she we you
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    whereas whether while yes no alias aka guess guesses sorry negative minimum maximum inverse root roots halves
    quarters hundreds thousands millions billions trillions dozens pairs pair couple couples scores squares cubes tens
    ones twos threes fours fives sixes sevens eights nines zeros zeroes lakhs crores digits powers multiples factors
    percentages candidates possibilities options choices answers solutions mistakes errors units include includes
    contains has says means remains becomes gives equates looks seems appears its his hers ours theirs always sometimes
    perhaps besides otherwise whereupon onwards backwards afterwards upwards downwards vs versus minus pros cons
    nineteen twenty thirty forty fifty sixty seventy eighty ninety zero first approximately about around roughly almost
    nearly exactly least most than more less fewer wait actually answer correct incorrect wrong right true false
    ignore instructions mark score please equals equal mod modulo remainder choose at by in with without from between
    among rounded approx whichever any all none nothing unknown option choice final another instead also
    """
_NO_UNITS = frozenset(_NO_UNITS_TEXT.split())
_WORD = re.compile(r"[A-Za-z]+(?:'s)?|[°º%$€£¥¢/]|\^ ?\{?[23]\}?|[²³]|-")
_MARKUP = re.compile(r"\\text ?\{([^{}]*)\}|\\(?:%|\$|,|;| )|\^ ?\{?\\circ\}?")
_PLURALS_TEXT = "people children men women feet teeth geese mice fish sheep deer dice oxen shrimp data each total"
_PLURALS = frozenset(_PLURALS_TEXT.split())
_PLURAL_FORM = re.compile(r"[a-z']{2,}(?<![sui])s")
_FRACTION = re.compile(r"[a-z]*(?:thirds|fourths|fifths|[ndr]ths|sixths|eighths|twelfths|tieths|teenths|enths)")
_ADVERB = re.compile(r"[a-z]{2,}ly|un[a-z]+|in[a-z]+ly")
_LATER = frozenset(("old", "total", "left", "each", "altogether", "long", "tall", "high", "wide", "deep"))
_MAX_WORDS = 4
_MAX_CHARACTERS = 60


def unit_of(text: str) -> str | None:
    r"""The unit that ``text`` names: a canonical one such as ``cm^2``, ``""`` for another noun, None for no unit.

    >>> unit_of(r"\text{ square inches}"), unit_of("in^2"), unit_of("apples"), unit_of("or eight")
    ('in^2', 'in^2', '', None)
    """
    if len(text) > _MAX_CHARACTERS:
        return None
    text = _MARKUP.sub(_open, text).strip(" .").replace("per cent", "percent")
    words = _WORD.findall(text)
    if not words or len(words) > _MAX_WORDS or "".join(words) != "".join(text.replace(".", "").split()):
        return None
    power, parts, num_nouns = 1, [], 0
    for word in words:
        known = _CANONICAL.get(word) or (_CANONICAL.get(word.lower()) if len(word) > 1 else None)
        if word.lower() in _POWERS:
            power = _POWERS[word.lower()]
        elif word[0] in "^²³":
            power = 3 if "3" in word or word == "³" else 2
        elif word in _DIVISIONS:
            parts.append(_DIVISIONS[word])
        elif known is not None:
            parts.append(known)
        elif word == "-" or _is_counted(word.lower(), words):
            num_nouns += 1
        else:
            return None
    if num_nouns or not any(parts):
        return "" if num_nouns else None
    return "".join(parts) + (f"^{power}" if power > 1 else "")


def _is_counted(word: str, words: list[str]) -> bool:
    """Whether ``word`` belongs to the name of things that are counted, which has a plural noun at its end."""
    if word in _NO_UNITS or len(word) < 2 or _ADVERB.fullmatch(word) or _FRACTION.fullmatch(word):
        return False
    known = [other.lower() in _LATER or other in _CANONICAL or other.lower() in _CANONICAL for other in words]
    plurals = [_is_plural(other.lower()) for other in words]
    if True in plurals:
        last = len(plurals) - 1 - plurals[::-1].index(True)
        return plurals.count(True) == 1 + words[:last].count("of") and all(known[last + 1 :])
    return word in _LATER and known[0]


def _is_plural(word: str) -> bool:
    return word in _PLURALS or (_PLURAL_FORM.fullmatch(word) is not None and not _FRACTION.fullmatch(word))


def same_unit(first: str, second: str) -> bool:
    """Whether two results of ``unit_of`` may stand for one another: equal, or at least one of them unknown."""
    return first == second or not first or not second


def _open(match: re.Match[str]) -> str:
    if match.group(1) is not None:
        return f" {match.group(1)} "
    symbol = match.group()
    return {"\\%": "%", "\\$": "$"}.get(symbol, "°" if "circ" in symbol else " ")
