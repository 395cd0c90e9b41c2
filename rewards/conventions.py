"""How trainers call the reward functions that people write for them, told apart by the names of the parameters.

| convention | parameters | sees | gives |
|---|---|---|---|
| ours | ``completion, problem`` | one answer | a number, a Verdict or None |
| ours, joint | ``completions, problems`` | a group | a list of those |
| TRL | ``completions``, with ``prompts``, ``completion_ids`` and columns | a group | a list of numbers or None |
| verl | ``data_source, solution_str, ground_truth, extra_info`` | one answer | a number, or a dict with ``score`` |
| verl, joint | ``data_sources, solution_strs, ground_truths, extra_infos`` | a group | a list of those |
| OpenRLHF | ``queries, prompts, labels`` | a group | a list, or a dict with ``rewards`` |
| slime | ``args, sample`` | one answer | a number |

A function of any of them may be async. Sources: the documentation and examples of each project, read in 2026.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from rewards.verdict import Question, Scope

REFERENCE_NAMES = ("reference", "answer", "solution", "ground_truth", "label", "target")
Args = Mapping[str, Any]


class UnknownConventionError(ValueError):
    """The parameters are those of no convention."""


@dataclass(frozen=True, slots=True)
class Convention:
    """``marks``: sets of parameters, each of which gives it away. ``call``: the keyword arguments for these answers.

    Where ``scope`` is "sample" there is one answer.
    """

    name: str
    marks: tuple[frozenset[str], ...]
    scope: Scope
    call: Callable[[Sequence[str], Sequence[Question]], dict[str, Any]]


def recognize(function: Callable[..., Any]) -> Convention:
    """The convention that a function's parameters are named by.

    >>> def compute_score(data_source, solution_str, ground_truth, extra_info=None): ...
    >>> recognize(compute_score).name
    'verl'

    Raises:
        UnknownConventionError: none; the message lists what is known.
    """
    names = set(inspect.signature(function).parameters)
    for convention in CONVENTIONS:
        if any(marks <= names for marks in convention.marks):
            return convention
    known = "; ".join(f"{c.name}: {', '.join(sorted(c.marks[0]))}" for c in CONVENTIONS)
    raise UnknownConventionError(
        f"its parameters ({', '.join(sorted(names)) or 'none'}) are those of no convention. Known by: {known}"
    )


def keywords_for(
    function: Callable[..., Any], offered: Args, args: Args, references: Sequence[str] | None = None
) -> dict[str, Any]:
    """What of ``offered`` the function takes, and the recipe's own ``args`` over it.

    ``references`` stand in for a column by one of ``REFERENCE_NAMES`` that the data lacks, unless the function has a
    default for it.

    Raises:
        UnknownConventionError: it takes no such argument as the recipe gives, or needs one that nobody has.
    """
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    named = {name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for key in args:
        if key not in named and not takes_any:
            raise UnknownConventionError(
                f"args.{key}: it takes no such argument; allowed are {', '.join(sorted(named))}"
            )
    if references is not None:
        has_default = {key for key in named if parameters[key].default is not inspect.Parameter.empty}
        offered = {key: list(references) for key in REFERENCE_NAMES if key not in has_default} | dict(offered)
    given = {key: value for key, value in offered.items() if takes_any or key in named} | dict(args)
    missing = [key for key in named - given.keys() if parameters[key].default is inspect.Parameter.empty]
    if missing:
        raise UnknownConventionError(
            f"it needs {', '.join(repr(key) for key in sorted(missing))}, which is no column of the data and not in "
            f"args; there are {', '.join(sorted(given))}"
        )
    return given


def as_messages(completions: Sequence[str]) -> list[list[dict[str, str]]]:
    """Answers as TRL gives those to conversational prompts: each a list of one message."""
    return [[{"role": "assistant", "content": completion}] for completion in completions]


def _ours(completions: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    return {"completion": completions[0], "problem": questions[0]}


def _ours_joint(completions: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    return {"completions": list(completions), "problems": list(questions)}


def _trl(completions: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for question in questions for key in question.columns):
        columns[key] = [question.columns.get(key) for question in questions]
    return {
        **columns,
        "prompts": [question.text for question in questions],
        "completions": list(completions),
        "completion_ids": [list(question.completion_ids) for question in questions],
        "log_extra": _ignore,
        "log_metric": _ignore,
    }


def _verl(completions: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    question = questions[0]
    return {
        "data_source": str(question.columns.get("data_source", "")),
        "solution_str": completions[0],
        "ground_truth": _ground_truth(question),
        "extra_info": _extra_info(question),
    }


def _verl_joint(completions: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    return {
        "data_sources": [str(question.columns.get("data_source", "")) for question in questions],
        "solution_strs": list(completions),
        "ground_truths": [_ground_truth(question) for question in questions],
        "extra_infos": [_extra_info(question) for question in questions],
    }


def _openrlhf(completions: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    prompts = [question.prompt or question.text for question in questions]
    return {
        "queries": [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)],
        "prompts": prompts,
        "labels": [question.reference for question in questions],
    }


def _slime(completions: Sequence[str], questions: Sequence[Question]) -> dict[str, Any]:
    question = questions[0]
    sample = SimpleNamespace(
        prompt=question.prompt or question.text,
        response=completions[0],
        response_length=len(question.completion_ids),
        label=question.reference,
        metadata=dict(question.columns),
    )
    return {"args": SimpleNamespace(), "sample": sample}


def _ground_truth(question: Question) -> Any:
    """verl's own column where the data has it, be it a text or a mapping; else the reference."""
    model = question.columns.get("reward_model")
    own = model.get("ground_truth") if isinstance(model, Mapping) else question.columns.get("ground_truth")
    return question.reference if own is None else own


def _extra_info(question: Question) -> dict[str, Any]:
    """verl's own column of that name where the data has one, and all columns beside it."""
    own = question.columns.get("extra_info")
    return {**question.columns, "question": question.text, **(own if isinstance(own, Mapping) else {})}


def _ignore(*_: object, **__: object) -> None:
    """TRL's logging callbacks: what they are told goes nowhere."""


def _marks(*alternatives: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(names.split()) for names in alternatives)


CONVENTIONS = (
    Convention("ours", _marks("completion"), "sample", _ours),
    Convention("ours, joint", _marks("completions problems"), "group", _ours_joint),
    Convention("verl", _marks("solution_str ground_truth"), "sample", _verl),
    Convention("verl, joint", _marks("solution_strs ground_truths"), "group", _verl_joint),
    Convention("OpenRLHF", _marks("queries labels", "queries prompts"), "group", _openrlhf),
    Convention("TRL", _marks("completions", "completion_ids", "prompts"), "group", _trl),
    Convention("slime", _marks("args sample"), "sample", _slime),
)
