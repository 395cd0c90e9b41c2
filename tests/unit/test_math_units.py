"""The parts of mathematical verification, each by itself: spelling, grammar, normal form, units, options, values."""

import pytest

from rewards.choice import option_of, same_option
from rewards.math_form import NoFormError, form_of, is_definite, spell
from rewards.math_grammar import parse
from rewards.math_scanner import ForeignError, NotReadableError
from rewards.math_text import tidy
from rewards.math_values import proportional, values_agree
from rewards.unit import unit_of


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\left( 1,\, 2 \right)", "( 1, 2 )"),
        ("The answer is 12.", "12"),
        (r"\text{The answer is } 12", "12"),
        ("The answer is not 12.", "not 12"),
        ("x ≤ √2", r"x \le \sqrt 2"),
        ("x²", "x^{2}"),
        (r"\mathrm{cm}", r"\text{cm}"),
        (r"\boxed{7}", "{7}"),
        ("1, 2, ...", r"1, 2, \ldots"),
    ],
)
def test_one_spelling_for_many(text: str, tidied: str) -> None:
    assert tidy(text) == tidied


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (r"\sqrt{12}", "2*sqrt(3)"),
        (r"\frac{1}{\sqrt{3}}", "sqrt(3)/3"),
        ("(x+1)^2", "x^2 + 2*x + 1"),
        ("1 1/4", "5/4"),
        ("2^10", "1024"),
        (r"0.1\overline{6}", "1/6"),
        (r"\sqrt{-4}", "2*i"),
        ("i^2", "-1"),
        ("(-8)^{1/3}", "-2"),
        (r"\sqrt{x^2}", "sqrt(x^2)"),
        ("1/2x", "x/2"),
        ("-2^2", "-4"),
        ("2^3^2", "512"),
        ("5!/3!", "20"),
        ("x/x", "1"),
        ("1.5e3", "1500"),
        (r"3\frac{x}{2}", "3*x/2"),
        (r"\sqrt[3]{54}", "3*2^(1/3)"),
    ],
)
def test_normal_forms(text: str, form: str) -> None:
    assert spell(form_of(parse(tidy(text)))) == form


@pytest.mark.parametrize("text", ["x+1", r"\sqrt{6}", r"\pi^2", "e^3"])
def test_forms_of_independent_atoms_are_definite(text: str) -> None:
    assert is_definite(form_of(parse(text)))


@pytest.mark.parametrize("text", [r"\sin x", r"\frac{1}{x+1}", r"\sqrt{1+\sqrt{2}}"])
def test_forms_of_taken_together_atoms_are_not_definite(text: str) -> None:
    assert not is_definite(form_of(parse(text)))


@pytest.mark.parametrize("text", ["1/0", "(1,2)", "x=1", "10^{30000}", "(x+1)^{300}", r"\infty"])
def test_what_has_no_form(text: str) -> None:
    with pytest.raises(NoFormError):
        form_of(parse(text))


@pytest.mark.parametrize(
    "text", ["2 3", "4 10/3", "x2", "1+", "(1", "1)", "the", r"\frac{1}", "5!!", "1..2", "≈3", r"\text{a", "--" * 99]
)
def test_what_the_grammar_does_not_read(text: str) -> None:
    with pytest.raises(NotReadableError):
        parse(tidy(text))


@pytest.mark.parametrize("text", [r"\int_0^1 x dx", r"\lim_{x \to 0} x", r"\sum_{k=1}^{\infty} 2^{-k}", r"\foo"])
def test_what_others_may_read_is_told_apart(text: str) -> None:
    with pytest.raises(ForeignError):
        parse(tidy(text))


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("cm", "cm"),
        ("centimeters", "cm"),
        (r"\text{ cm}^2", "cm^2"),
        ("square inches", "in^2"),
        ("km/h", "km/h"),
        ("miles per hour", "mi/h"),
        (r"\%", "percent"),
        (r"^\circ", "degree"),
        ("apples", ""),
        ("red apples", ""),
        ("or eight", None),
        ("but it may be twelve", None),
        ("x", None),
        ("million", None),
        ("a very long tale of many words", None),
        ("", None),
    ],
)
def test_units(text: str, unit: str | None) -> None:
    assert unit_of(text) == unit


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        (r"\text{(B)}", "B", True),
        (r"\text{(B)}", "(b)", True),
        (r"\text{(B)}", "Option C", False),
        ("(B) 12", "B.", True),
        ("(B) 12", "(B) 13", None),
        ("12", "B", None),
        ("B", "B or C", None),
    ],
)
def test_options(reference: str, answer: str, same: bool | None) -> None:
    assert same_option(reference, answer) is same


def test_what_names_no_option() -> None:
    assert [option_of(text) for text in ("12", "B 12", "(B) or (C)", "AB", "K", "B, C")] == [None] * 6


@pytest.mark.parametrize(
    ("expected", "given", "agree"),
    [
        (r"\sqrt{1/n}", r"1/\sqrt{n}", True),
        ("|x|", "x", False),
        (r"\tan^2(y)+1", r"\sec^2(y)", True),
        (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}", True),
        (r"\sin(1) + 10^{-80}", r"\sin(1)", False),
        (r"\sin(1) - \sin(1) + e^{-200}", "0", False),
        (r"e^{\pi\sqrt{163}}", "262537412640768744", False),
        (r"\frac{1}{2004!}\sin 1", r"\frac{1}{2006!}\sin 1", False),
        (r"\log 100", "2", True),
        (r"\ln 100", "2", False),
        (r"\sum_{k=1}^{n} k", "n(n+1)/2", True),
        (r"\sum_{k=1}^{n} k", "n(n-1)/2", False),
        ("f(x)+1", "1+f(x)", True),
        ("f(x)", "f(2x)", False),
        (r"\sin(10^{400})", r"\sin(10^{400}+1)", None),
        (r"\sqrt{x}", r"\sqrt{y}", False),
    ],
)
def test_values(expected: str, given: str, agree: bool | None) -> None:
    assert values_agree(parse(tidy(expected)), parse(tidy(given))) is agree


def test_sides_of_equations_are_proportional_or_not() -> None:
    trees = [parse(text) for text in (r"\sin x - y", r"2y - 2\sin x", r"\sin x + y")]
    assert proportional(trees[0], trees[1]) == -1.0
    assert proportional(trees[0], trees[2]) == 0.0
