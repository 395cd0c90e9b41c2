"""Rule-based verifiers: text in, verdict out. Usable without the trainer; imports neither it nor torch.

>>> from rewards import Question, make_verifier
>>> verifier = make_verifier("number", extract="answer_tags")
>>> verifier.verify("<think>2+2</think><answer>4</answer>", Question(text="2 + 2?", reference="4")).status.value
'correct'
"""

import difflib
import inspect
from collections.abc import Callable, Iterable

from rewards.countdown import CountdownVerifier
from rewards.form import FormatVerifier, LengthVerifier
from rewards.math_answer import MathAnswerVerifier
from rewards.number import NumberVerifier
from rewards.random_control import RandomVerifier
from rewards.verdict import Question, Status, Verdict, Verifier

__all__ = [
    "VERIFIERS",
    "CountdownVerifier",
    "FormatVerifier",
    "LengthVerifier",
    "MathAnswerVerifier",
    "NumberVerifier",
    "Question",
    "RandomVerifier",
    "Status",
    "Verdict",
    "Verifier",
    "make_verifier",
]

VERIFIERS: dict[str, Callable[..., Verifier]] = {
    "number": NumberVerifier,
    "math_answer": MathAnswerVerifier,
    "countdown": CountdownVerifier,
    "format": FormatVerifier,
    "length": LengthVerifier,
    "random": RandomVerifier,
}


def make_verifier(name: str, **args: object) -> Verifier:
    """The verifier of that name.

    Raises:
        ValueError: no verifier has the name, it takes no such argument, lacks one, or refuses a value; the message
            says which, what is allowed, and the nearest match.
    """
    if name not in VERIFIERS:
        raise ValueError(f"no verifier is named {name!r}: {_allowed(name, VERIFIERS)}")
    parameters = inspect.signature(VERIFIERS[name]).parameters
    for key in args:
        if key not in parameters:
            raise ValueError(f"verifier {name!r} takes no argument {key!r}: {_allowed(key, parameters)}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in args:
            raise ValueError(f"verifier {name!r} needs the argument {key!r}: {_allowed(key, parameters)}")
    return VERIFIERS[name](**args)


def _allowed(given: str, names: Iterable[str]) -> str:
    names = list(names)
    nearest = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest and nearest[0] != given else ""
    return f"allowed are {', '.join(names)}{hint}"
