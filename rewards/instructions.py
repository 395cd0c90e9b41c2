"""Whether an answer follows its instructions: IFEval's (arXiv 2311.07911), checked by rule.

The dataset has the columns of google/IFEval: ``instruction_id_list``, a list of ids, and ``kwargs``, as long, each the
arguments of its instruction (absent ones None), as lists or as JSON.
"""

import difflib
import json
import time
from collections.abc import Iterator, Mapping, Sequence

from rewards.arguments import check_choice
from rewards.base import InlineVerifier
from rewards.instruction_checks import CHECKS, ArgumentError, Arguments
from rewards.number import shorten
from rewards.verdict import Question, Status, Verdict, failed

MODES = ("strict", "loose")
SCORES = ("all", "share")
PARTS = ("response", "whole")
MAX_CHARACTERS = 200_000  # of an answer: longer follows no instruction


class InstructionsVerifier(InlineVerifier):
    """1 where every instruction is followed, else 0 (``score: all``), or the share followed (``score: share``).

    ``mode: loose`` also takes an instruction for followed where it is after the first line, the last, both or
    every asterisk is taken away, which forgives "Sure, here it is:" and markdown (section 2.2 of the paper).
    ``part: response`` checks what follows the last ``</think>``, without answer tags around it; ``whole`` all of it.

    >>> question = Question(
    ...     text="Two bullets, without a comma.",
    ...     reference="",
    ...     columns={
    ...         "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"],
    ...         "kwargs": [{}, {"num_bullets": 2}],
    ...     },
    ... )
    >>> InstructionsVerifier(score="share").verify("- one, two", question).reason
    'not followed: punctuation:no_comma, detectable_format:number_bullet_lists'
    """

    name = "instructions"

    def __init__(self, *, mode: str = "strict", score: str = "all", part: str = "response") -> None:
        """Raises ValueError where ``mode``, ``score`` or ``part`` is none of those there are."""
        check_choice("mode", mode, MODES)
        check_choice("score", score, SCORES)
        check_choice("part", part, PARTS)
        self.mode = mode
        self.score = score
        self.part = part

    def verify(self, completion: str, question: Question) -> Verdict:
        started = time.perf_counter()
        try:
            instructions = _read_columns(question)
            response = completion if self.part == "whole" else _response(completion)
            readings = [response] if self.mode == "strict" else list(_loosened(response))
            # No check is left out, whatever came before: a wrong argument shows at the first answer.
            missed = [name for name, args in instructions if not _follows(name, args, readings)]
        except ValueError as error:
            return failed(str(error))
        share = 1.0 - len(missed) / len(instructions)
        return Verdict(
            score=share if self.score == "share" else float(not missed),
            status=Status.WRONG if missed else Status.CORRECT,
            reason=f"not followed: {', '.join(missed)}" if missed else "",
            seconds=time.perf_counter() - started,
        )


def _follows(name: str, args: Arguments, readings: Sequence[str]) -> bool:
    """Whether any reading follows the instruction. Nothing follows one, nor does a flood."""
    readings = [text if len(text) <= MAX_CHARACTERS else "" for text in readings]
    try:
        followed = [CHECKS[name](text, args) and bool(text.strip()) for text in readings]
    except ArgumentError as error:
        raise ValueError(f"column 'kwargs' of {name}: {error}") from error
    return any(followed)


def _response(completion: str) -> str:
    response = completion.rpartition("</think>")[2]
    before, opened, inside = response.partition("<answer>")
    if opened and not before.strip() and inside.rstrip().endswith("</answer>"):
        return inside.rstrip().removesuffix("</answer>").strip()
    return response.strip() if len(response) < len(completion) else response


def _loosened(response: str) -> Iterator[str]:
    first, _, after_first = response.partition("\n")
    before_last = response.rpartition("\n")[0]
    between = after_first.rpartition("\n")[0]
    for text in (response, after_first.strip(), before_last.strip(), between.strip()):
        yield text
        yield text.replace("*", "")


def _read_columns(question: Question) -> list[tuple[str, Arguments]]:
    """Raises ValueError naming the column that is missing or holds something else."""
    names = _read_list(question, "instruction_id_list")
    several = _read_list(question, "kwargs")
    if len(names) != len(several):
        raise ValueError(
            f"column 'kwargs' has {len(several)} entries: {len(names)} are needed, as 'instruction_id_list'"
        )
    if not names:
        raise ValueError("column 'instruction_id_list' is empty: at least one instruction is needed")
    instructions = []
    for name, args in zip(names, several, strict=True):
        args = {} if args is None else args
        if not isinstance(name, str) or name not in CHECKS:
            raise ValueError(f"column 'instruction_id_list': {_unknown(name)}")
        if not isinstance(args, Mapping):
            raise ValueError(f"column 'kwargs' = {shorten(repr(args))}: a list of mappings is needed")
        instructions.append((name, args))
    return instructions


def _read_list(question: Question, column: str) -> list[object]:
    value = question.columns.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"column {column!r} = {shorten(value)}: {error}") from error
    if not isinstance(value, list | tuple):
        raise ValueError(f"column {column!r} = {shorten(repr(value))}: a list is needed")
    return list(value)


def _unknown(name: object) -> str:
    nearest = difflib.get_close_matches(str(name), CHECKS, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else f": allowed are {', '.join(CHECKS)}"
    return f"no instruction has the id {shorten(str(name))}{hint}"
