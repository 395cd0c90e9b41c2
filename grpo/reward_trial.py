"""``grpo reward test``: a reward function by name or file, tried on a file's rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from grpo.errors import DataError, RecipeError, UserError, VerifierError, as_written
from grpo.recipe import Reward, Scoring, parse_yaml
from grpo.scoring import make_reward
from rewards import PluginVerifier
from rewards.trial import try_verifier
from rewards.verdict import Verifier


def report_trial(
    function: str,
    arguments: Sequence[str],
    data: Path | None,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    waiting: Callable[[str], None] = lambda _: None,
) -> str:
    """The trial as text.

    Args:
        columns: what the file's columns for ``question`` and ``reference`` are called, where it is not so.
        waiting: is told of every verdict that is slow to come, and when it will be given up.

    Raises:
        UserError: there is no such function, it does not take these arguments, or the file has no such rows.
        VerifierError: the trial found something that a run would suffer from; the message is the whole report.
    """
    args = dict(_argument(argument) for argument in arguments)
    rows = _rows(data) if data is not None else ()
    verifier = _made(function, args)
    try:
        until = _limit(verifier)
        trial = try_verifier(
            verifier,
            rows,
            columns=columns,
            waiting=lambda what: waiting(f"waiting for the verdict of {function} on {what}: {until}"),
        )
    except ValueError as error:
        raise DataError(f"--data {data}: {error}. Name the columns: --question COLUMN --reference COLUMN") from None
    finally:
        verifier.close()
    report = "\n".join(trial.lines())
    if trial.findings:
        raise VerifierError(f"{len(trial.findings)} finding{'s' * (len(trial.findings) > 1)}\n{report}")
    return report


def _made(function: str, args: dict[str, Any]) -> Verifier:
    is_own = ":" in function
    try:
        reward = Reward(fn=function, args=args) if is_own else Reward(name=function, args=args)
        return make_reward(reward, Scoring(), key="reward")
    except RecipeError as error:
        end = "" if error.allowed.endswith("?") else "."
        raise UserError(f"{function}: {error.allowed}{end} {error.fix}") from error
    except ValidationError as error:
        name = error.errors()[0]["loc"][1]
        raise UserError(
            f"argument {name} = {as_written(args[str(name)])}: must be a text, a number, true or false"
        ) from None


def _limit(verifier: Verifier) -> str:
    if isinstance(verifier, PluginVerifier):
        scoring = Scoring()
        return f"it is ended after {scoring.cpu_s:g} s of computing, or {scoring.deadline_s:g} s in all"
    return "it has a limit of its own"


def _argument(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"'{text}' is no argument of a reward. Write KEY=VALUE, as in extract=boxed.")
    return key, parse_yaml(value, f"argument {key}")


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"--data {path}: cannot be read ({error.strerror}). Name a .jsonl file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"--data {path}: not UTF-8 text (byte {error.start}). Name a .jsonl file") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            raise DataError(f"--data {path}, line {number}: no JSON ({error}). Each line is one object") from None
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        raise DataError(f"--data {path}: holds no rows. Each line is one object with question and answer")
    return rows
