"""The verifiers that judge by themselves, by the name that recipes know them by, and how one is made by name."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping

from rewards.code_tests import CodeTestsVerifier
from rewards.countdown import CountdownVerifier
from rewards.format import FormatVerifier, TagCountVerifier
from rewards.instructions import InstructionsVerifier
from rewards.json_schema import JsonSchemaVerifier
from rewards.language import LanguageVerifier
from rewards.length import LengthVerifier
from rewards.math_answer import MathAnswerVerifier
from rewards.number import NumberVerifier
from rewards.random_control import RandomVerifier
from rewards.reasoning_gym_task import ReasoningGymVerifier
from rewards.repetition import RepetitionVerifier
from rewards.verdict import Verifier

Makers = Mapping[str, Callable[..., Verifier]]

JUDGES: Makers = {
    "number": NumberVerifier,
    "math_answer": MathAnswerVerifier,
    "code_tests": CodeTestsVerifier,
    "countdown": CountdownVerifier,
    "format": FormatVerifier,
    "tag_count": TagCountVerifier,
    "length": LengthVerifier,
    "repetition": RepetitionVerifier,
    "language": LanguageVerifier,
    "json_schema": JsonSchemaVerifier,
    "instructions": InstructionsVerifier,
    "reasoning_gym": ReasoningGymVerifier,
    "random": RandomVerifier,
}


def make_from(makers: Makers, name: str, args: Mapping[str, object]) -> Verifier:
    """The verifier of that name in a table.

    Raises:
        ValueError: no verifier has the name, it takes no such argument, lacks one, or refuses a value; the message
            says which, what is allowed, and the nearest match.
    """
    if name not in makers:
        raise ValueError(f"no verifier is named {name!r}: {_allowed(name, makers)}")
    parameters = inspect.signature(makers[name]).parameters
    named = {key: each for key, each in parameters.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}
    for key in args:
        if key not in named and len(named) == len(parameters):  # else it is for the judge, which looks at it itself
            raise ValueError(f"verifier {name!r} takes no argument {key!r}: {_allowed(key, named)}")
    for key, parameter in named.items():
        if parameter.default is inspect.Parameter.empty and key not in args:
            raise ValueError(f"verifier {name!r} needs the argument {key!r}: {_allowed(key, named)}")
    return makers[name](**args)


def with_workers(makers: Makers, name: str, num_workers: int, args: Mapping[str, object]) -> dict[str, object]:
    """``args``, and ``num_workers`` where the verifier of that name has processes and ``args`` do not say how many."""
    takes_them = name in makers and "num_workers" in inspect.signature(makers[name]).parameters
    return {"num_workers": num_workers, **args} if takes_them else dict(args)


def _allowed(given: str, names: Iterable[str]) -> str:
    names = list(names)
    nearest = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest and nearest[0] != given else ""
    return f"allowed are {', '.join(names)}{hint}"
