r"""References of mathematics problems, each written in five ways that are right and some that are wrong.

The own corpus stands in where no file of references is given: the kinds of answer that MATH-500 has, in its shares.
"""

import json
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

NUM_WRITINGS = 5
OWN_REFERENCES = (
    *(str(number) for number in (2, 9, 42, -7, 120, 2220, 144, 6, 13, 28, 1, 0, 10080, 62, 75, 5, 18, 54, 17, 70)),
    *(
        r"\frac{14}{3}",
        r"\frac{3}{56}",
        r"-\frac{35}{9}",
        r"\dfrac{17}{50}",
        r"\frac43",
        "0.15",
        "4.5",
        "3.21",
        ".35625",
    ),
    *(r"3\sqrt{13}", r"\sqrt{51}", r"\frac{3\sqrt{3}}{4}", r"1+2\sqrt{3}", r"11\sqrt2", r"288 \pi", r"-\frac{\pi}{6}"),
    *(r"\left( 3, \frac{\pi}{2} \right)", "(6,31,-1)", r"(-\infty, 0]", r"(0,9) \cup (9,36)", r"x \in [-2,7]"),
    *("x^3+3x-6", "6r^2-4r-24", "2k+2", "(a+5)(b+2)", "y = 2x + 3", "5x - 7y + 11z + 4 = 0", r"\frac{11+9a}{20}"),
    *("6 - 5i", "1+274i", "52_8", r"4210_{5}", r"90^\circ", r"\$18.90", r"15\mbox{ cm}^2", r"137 \frac{1}{2}"),
    *("1,-2", "3, 5, 7", r"1 \pm \sqrt{19}", r"\{1\pm\sqrt{5},-2\}", r"\text{(C)}", r"\text{Evelyn}", r"\text{even}"),
    *(
        r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}",
        r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}",
        r"\cot x",
    ),
)
_DIGIT = re.compile(r"[0-9](?![0-9])")


class Written(NamedTuple):
    """One completion, how its answer is to be found in it, and what it is to be judged against."""

    completion: str
    extract: str
    reference: str
    is_right: bool


def read_references(path: Path) -> list[str]:
    """The column ``answer`` of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        return [str(json.loads(line)["answer"]) for line in lines]


def corpus(references: Sequence[str]) -> list[Written]:
    """Every reference in five right writings, then as many wrong answers."""
    right = [written for reference in references for written in right_writings(reference)]
    wrong = [written for place in range(len(references)) for written in wrong_writings(references, place)]
    return [*right, *wrong]


def right_writings(reference: str) -> Iterator[Written]:
    yield Written(reference, "whole", reference, True)
    yield Written(f"We add up. So the answer is $\\boxed{{{reference}}}$.", "boxed", reference, True)
    yield Written(f"${reference}$", "whole", reference, True)
    yield Written(f"<think>It adds up.</think>\n<answer> {reference} </answer>", "answer_tags", reference, True)
    yield Written(respell(reference), "whole", reference, True)


def respell(reference: str) -> str:
    """An equal writing: another spelling of a number, plain text, or other commands that set the same."""
    number = plain_number(reference)
    if number is not None:
        return f"{number.numerator}/{number.denominator}" if number.denominator > 1 else f"{number.numerator:,}.0"
    if "\\text" in reference or "\\mbox" in reference:
        return reference.replace("\\text", "\\mathrm").replace("\\mbox", "\\text")
    for written, other in (
        ("\\dfrac", "\\frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("\\frac", "\\dfrac"),
        ("pmatrix", "bmatrix"),
    ):
        reference = reference.replace(written, other)
    for written, other in (("(", "\\left("), (")", "\\right)"), ("+", " + "), ("\\pi", "\\,\\pi")):
        reference = reference.replace(written, other)
    return reference


def wrong_writings(references: Sequence[str], place: int) -> Iterator[Written]:
    """Off by one, by a digit, by the sign; another problem's reference, with and without this one beside it."""
    reference = references[place]
    other = next(text for text in [*references[place + 1 :], *references[: place + 1]] if reference not in text)
    number = plain_number(reference)
    yield Written(str(number + 1) if number is not None else f"{other} + 17", "whole", reference, False)
    yield Written(change_digit(reference) or other, "whole", reference, False)
    yield Written(f"\\boxed{{{-number if number else other}}}", "boxed", reference, False)
    yield Written(f"<answer>{other}</answer>", "answer_tags", reference, False)
    yield Written(f"${reference}$ or ${other}$", "whole", reference, False)


def change_digit(reference: str) -> str | None:
    """With its last digit another; None where it has none."""
    digits = list(_DIGIT.finditer(reference))
    if not digits:
        return None
    last = digits[-1]
    return f"{reference[: last.start()]}{(int(last.group()) + 3) % 10}{reference[last.end() :]}"


def plain_number(reference: str) -> Fraction | None:
    """The value of ``-3``, ``0.15`` and ``\\frac{3}{4}``: a reading of our own, for the verifiers are on trial."""
    match = re.fullmatch(r"(-?)\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}", reference)
    if match is not None:
        return Fraction(int(match.group(1) + match.group(2)), int(match.group(3)))
    return Fraction(reference) if re.fullmatch(r"-?[0-9]*\.?[0-9]+", reference) else None
