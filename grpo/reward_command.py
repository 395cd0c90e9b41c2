"""``grpo reward``: test."""

import functools
from pathlib import Path
from typing import Annotated

import typer

from grpo.command import Debug, reported

app = typer.Typer(help="Reward functions.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Keeps the command's name: a group of one would lose it."""


@app.command("test")
def reward_test(
    function: Annotated[
        str, typer.Argument(help="FILE.py:FUNCTION, package.module:FUNCTION, or a name such as number")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="A .jsonl file with question and answer, or a run's transcripts.jsonl."),
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", metavar="COLUMN", help="Its column with the problem's text.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="COLUMN", help="Its column with the reference answer.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Try a reward function: verdicts on samples, time, memory, and texts that a policy may come to write.

    Example: grpo reward test my_rewards.py:brevity --data problems.jsonl
    """
    with reported(debug=debug, interrupted="Nothing was kept of this trial."):
        from grpo.reward_trial import report_trial

        columns = {name: column for name, column in (("question", question), ("reference", reference)) if column}
        waiting = functools.partial(typer.echo, err=True)
        typer.echo(report_trial(function, arguments or [], data, columns=columns, waiting=waiting))
