"""``grpo reward test``: a reward function by name or file, tried on a file's rows."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from grpo.errors import DataError, RecipeError, VerifierError
from grpo.recipe import Reward, Scoring, parse_yaml
from grpo.scoring import make_reward
from rewards import PluginVerifier
from rewards.trial import try_verifier
from rewards.verdict import Verifier


def report_trial(
    function: str, arguments: Sequence[str], data: Path | None, *, waiting: Callable[[str], None] = lambda _: None
) -> str:
    """The trial as text; ``waiting`` is told of every verdict that is slow to come, and when it will be given up.

    Raises:
        UserError: there is no such function, it does not take these arguments, or the file has no such rows.
        VerifierError: the trial found something that a run would suffer from; the message is the whole report.
    """
    args = dict(_argument(argument) for argument in arguments)
    is_own = ":" in function
    reward = Reward(fn=function, args=args) if is_own else Reward(name=function, args=args)
    verifier = make_reward(reward, Scoring(), key="reward")
    try:
        until = _limit(verifier)
        trial = try_verifier(
            verifier,
            _rows(data) if data is not None else (),
            waiting=lambda what: waiting(f"waiting for the verdict of {function} on {what}: {until}"),
        )
    except ValueError as error:
        raise DataError(f"{data}: {error}") from None
    finally:
        verifier.close()
    report = "\n".join(trial.lines())
    if trial.findings:
        raise VerifierError(f"{len(trial.findings)} findings\n{report}")
    return report


def _limit(verifier: Verifier) -> str:
    if isinstance(verifier, PluginVerifier):
        scoring = Scoring()
        return f"it is ended after {scoring.cpu_s:g} s of computing, or {scoring.deadline_s:g} s in all"
    return "it has a limit of its own"


def _argument(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(text, "", "is no argument", "Write KEY=VALUE, as in extract=boxed.")
    return key, parse_yaml(value, f"argument {key}")


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"--data {path}: cannot be read ({error.strerror}). Name a .jsonl file") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise DataError(f"--data {path}, line {number}: no JSON ({error}). Each line is one object") from None
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        raise DataError(f"--data {path}: holds no rows. Each line is one object with question and answer")
    return rows
