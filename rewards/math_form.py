"""A normal form of arithmetic: rational combinations of products of atoms. Exact; no float takes part.

A form maps monomials to coefficients; a monomial lists its atoms with their exponents. Atoms are symbols, ``pi``,
``e``, ``i``, primes under a root (sqrt(12) is 2 times the atom 3 to the power 1/2) and, by their spelling, whatever
is not taken apart further: ``sin(x)``, ``(x+1)^(-1)``.

>>> from rewards.math_grammar import parse
>>> spell(form_of(parse("\\\\sqrt{8}x + x^2 - (x-1)^2")))
'2*sqrt(2)*x + 2*x - 1'

Equal forms mean equal values. Unequal forms mean unequal values where every atom is independent of the others
(``is_definite``): symbols, roots of primes, pi and e are.
"""

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from rewards.math_tree import MAX_EXACT_DIGITS, Node

Monomial = tuple[tuple[str, Fraction], ...]
Form = dict[Monomial, Fraction]

_MAX_MONOMIALS = 60
_MAX_EXPANDED = 12  # exponent of a sum that is multiplied out
_MAX_WORK = 10**6  # bits of coefficients, over all pairs of terms of one product
_MAX_RADICAND = 10**8  # trial division up to its root
_OPAQUE = "([|"  # atoms whose spelling holds one of these are expressions, not names


class NoFormError(ValueError):
    """The expression has none, or one too large: it must be compared otherwise."""


def constant(value: Fraction | int) -> Form:
    return {(): Fraction(value)} if value else {}


def is_definite(form: Form) -> bool:
    """Whether no relation can hold between the atoms, so that another form is another value."""
    return not any(character in atom for monomial in form for atom, _ in monomial for character in _OPAQUE)


@lru_cache(maxsize=1024)
def form_of(node: Node) -> Form:
    """The form of an expression; callers must not change it.

    Raises:
        NoFormError: the expression is none (a list, a relation), is undefined, or too large to be written out.
    """
    if node.digits > MAX_EXACT_DIGITS:
        raise NoFormError("too large to be exact")
    match node.kind:
        case "number":
            return constant(node.value)
        case "symbol" if node.name != "infinity":
            return {((node.name, Fraction(1)),): Fraction(1)}
        case "sum":
            return _add(form_of(part) for part in node.parts)
        case "product":
            product = constant(1)
            for part in node.parts:
                product = _multiply(product, form_of(part))
            return product
        case "power":
            return _power(form_of(node.parts[0]), form_of(node.parts[1]))
        case "call":
            return _call(node.name, [form_of(part) for part in node.parts])
    raise NoFormError(f"a {node.kind} is no expression")


def rational(form: Form) -> Fraction | None:
    """The value of a form without atoms, else None."""
    if not form:
        return Fraction(0)
    return form[()] if len(form) == 1 and () in form else None


def spell(form: Form) -> str:
    """The canonical spelling, such as ``pi/2`` or ``2*sqrt(3)*x + 1``."""
    if not form:
        return "0"
    terms = sorted(form.items(), key=lambda term: (not term[0], [(atom, -power) for atom, power in term[0]]))
    text = " + ".join(_spell_term(monomial, coefficient) for monomial, coefficient in terms)
    return text.replace("+ -", "- ")


def spell_fraction(value: Fraction) -> str:
    """As ``str``, and where that would be too long for Python to convert, in hexadecimal."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) < 12_000:
        return str(value)
    return f"{value.numerator:#x}/{value.denominator:#x}"


def _spell_term(monomial: Monomial, coefficient: Fraction) -> str:
    if not monomial:
        return spell_fraction(coefficient)
    factors = "*".join(_spell_power(atom, power) for atom, power in monomial)
    top = "" if coefficient.numerator == 1 else "-" if coefficient.numerator == -1 else None
    top = f"{spell_fraction(Fraction(coefficient.numerator))}*" if top is None else top
    bottom = "" if coefficient.denominator == 1 else "/" + spell_fraction(Fraction(coefficient.denominator))
    return f"{top}{factors}{bottom}"


def _spell_power(atom: str, power: Fraction) -> str:
    if power == 1:
        return atom
    if power == Fraction(1, 2):
        return f"sqrt{atom}" if atom.startswith("(") else f"sqrt({atom})"
    return f"{atom}^{power}" if power.denominator == 1 and power > 0 else f"{atom}^({power})"


def _add(forms: Iterable[Form]) -> Form:
    total: Form = {}
    for form in forms:
        for monomial, coefficient in form.items():
            total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return _kept(total)


def _multiply(left: Form, right: Form) -> Form:
    if len(left) * len(right) * (_bits(left) + _bits(right)) > _MAX_WORK:
        raise NoFormError("too many terms")
    total: Form = {}
    for first, one in left.items():
        for second, other in right.items():
            factor, monomial = _join(first, second)
            total[monomial] = total.get(monomial, Fraction(0)) + one * other * factor
    return _kept(total)


def _bits(form: Form) -> int:
    """Of the largest coefficient."""
    sizes = (max(value.numerator.bit_length(), value.denominator.bit_length()) for value in form.values())
    return max(sizes, default=1)


def _kept(form: Form) -> Form:
    kept = {monomial: coefficient for monomial, coefficient in form.items() if coefficient}
    if len(kept) > _MAX_MONOMIALS:
        raise NoFormError("too many terms")
    return kept


def _join(first: Monomial, second: Monomial) -> tuple[Fraction, Monomial]:
    """The product of two monomials; whole powers of primes and of ``i`` turn into a factor."""
    powers = dict(first)
    for atom, power in second:
        powers[atom] = powers.get(atom, Fraction(0)) + power
    factor = Fraction(1)
    for atom, power in list(powers.items()):
        if atom == "i":
            factor *= -1 if power % 4 >= 2 else 1
            powers[atom] = power % 2
        elif atom.isdigit():
            factor *= Fraction(int(atom)) ** math.floor(power)
            powers[atom] = power % 1
    return factor, tuple(sorted((atom, power) for atom, power in powers.items() if power))


def _power(base: Form, exponent: Form) -> Form:
    times = rational(exponent)
    if times is None:
        return _opaque(f"({spell(base)})^({spell(exponent)})")
    if times == 0:
        return constant(1)
    if not base:
        if times < 0:
            raise NoFormError("division by zero")
        return {}
    if times.denominator == 1 and times > 0 and len(base) > 1:
        return _expand(base, int(times))
    if len(base) == 1:
        ((monomial, coefficient),) = base.items()
        return _power_of_term(monomial, coefficient, times)
    return _power_of_sum(base, times)


def _expand(base: Form, times: int) -> Form:
    if times > _MAX_EXPANDED:
        raise NoFormError("too many terms")
    product = base
    for _ in range(times - 1):
        product = _multiply(product, base)
    return product


def _power_of_term(monomial: Monomial, coefficient: Fraction, times: Fraction) -> Form:
    """A fractional power passes to single atoms only: the root of x^2 is not x."""
    if times.denominator == 1:
        whole: Form = {(): coefficient ** int(times)}
        powers: Form = {(): Fraction(1)}
        for atom, power in monomial:
            factor, joined = _join((), ((atom, power * times),))
            powers = _multiply(powers, {joined: factor})
        return _multiply(whole, powers)
    if not monomial:
        return _root(coefficient, times)
    positive = all(atom in ("pi", "e") or atom.isdigit() for atom, _ in monomial)
    plain = len(monomial) == 1 and monomial[0][1] == 1 and monomial[0][0] != "i"
    if coefficient < 0 or not (positive or plain):
        return _opaque(f"({spell({monomial: coefficient})})", times)
    factor, joined = _join((), tuple((atom, power * times) for atom, power in monomial))
    return _multiply(_root(coefficient, times), {joined: factor})


def _power_of_sum(base: Form, times: Fraction) -> Form:
    """``c`` times a sum whose first coefficient is 1, the sum being an atom."""
    leading = base[min(base, key=lambda monomial: (not monomial, monomial))]
    if times.denominator > 1:
        leading = abs(leading)
    monic = {monomial: coefficient / leading for monomial, coefficient in base.items()}
    return _multiply(_power_of_term((), leading, times), _opaque(f"({spell(monic)})", times))


def _root(value: Fraction, times: Fraction) -> Form:
    """A rational power of a rational number, in primes; odd roots of negative numbers are real."""
    if value < 0:
        if times.denominator == 2:
            imaginary = (("i", Fraction(1)),)
            sign = (-1) ** ((times.numerator - 1) // 2)
            return _multiply({imaginary: Fraction(sign)}, _root(-value, times))
        if times.denominator % 2 == 0:
            raise NoFormError("an even root of a negative number")
        return _multiply(constant((-1) ** times.numerator), _root(-value, times))
    powers: Form = {(): Fraction(1)}
    for part, sign in ((value.numerator, 1), (value.denominator, -1)):
        for prime, count in _factorize(part).items():
            factor, monomial = _join((), ((str(prime), sign * count * times),))
            powers = _multiply(powers, {monomial: factor})
    return powers


def _factorize(value: int) -> dict[int, int]:
    found: dict[int, int] = {}
    divisor = 2
    while divisor * divisor <= value:
        if value > _MAX_RADICAND and divisor > 1000:
            raise NoFormError("a radicand too large to factor")
        while value % divisor == 0:
            found[divisor] = found.get(divisor, 0) + 1
            value //= divisor
        divisor += 1
    if value > 1:
        found[value] = found.get(value, 0) + 1
    return found


def _call(name: str, arguments: list[Form]) -> Form:
    values = [rational(argument) for argument in arguments]
    if len(values) == 1 and values[0] is not None:
        exact = _exact_call(name, values[0])
        if exact is not None:
            return constant(exact)
    if name == "binomial" and values[0] is not None and values[1] is not None:
        top, bottom = values[0], values[1]
        if top.denominator == bottom.denominator == 1 and min(top, bottom) >= 0:
            return constant(math.comb(int(top), int(bottom)))
    if name in ("gcd", "lcm") and all(value is not None and value.denominator == 1 for value in values):
        choose = math.gcd if name == "gcd" else math.lcm
        return constant(choose(*(int(value) for value in values if value is not None)))
    if name in ("summation", "multiplication"):
        raise NoFormError("a sum over an index")
    return _opaque(f"{name}({', '.join(spell(argument) for argument in arguments)})")


def _exact_call(name: str, value: Fraction) -> Fraction | int | None:
    if name == "factorial":
        if value.denominator != 1 or value < 0:
            return None
        return math.factorial(int(value))
    match name:
        case "abs":
            return abs(value)
        case "floor":
            return math.floor(value)
        case "ceiling":
            return math.ceil(value)
    return None


def _opaque(spelling: str, power: Fraction = Fraction(1)) -> Form:
    return {((spelling, power),): Fraction(1)}
