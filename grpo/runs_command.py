"""``grpo runs``: list, compare, best."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from grpo import runs
from grpo.command import AsJson, Debug, reported
from grpo.sparkline import blocks_for

app = typer.Typer(help="Runs on disk: list them, compare them, find a run's best checkpoint.", no_args_is_help=True)
_NOTHING = "Nothing was changed."


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Run folders are looked for here and below.")] = (
        Path("runs")
    ),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the runs in a folder: model, step, state, reward, pass@1 before and now, hours, size on disk.

    A run counts as running while its files grow; one that is silent for long as interrupted.

    Example: grpo runs list runs
    """
    with reported(debug=debug, interrupted=_NOTHING):
        records = [runs.summary(path) for path in runs.find_runs(folder)]
        typer.echo(json.dumps(records) if as_json else "\n".join(runs.list_lines(records)))


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Two run folders or more.")],
    metric: Annotated[str, typer.Option("--metric", help="The one whose course is drawn.")] = "reward",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put runs side by side: final and best pass@1 with intervals, a metric's course, the recipe keys that differ.

    Example: grpo runs compare runs/a runs/b --metric completions/mean_length
    """
    with reported(debug=debug, interrupted=_NOTHING):
        compared = runs.compare(folders, metric)
        if as_json:
            typer.echo(json.dumps(compared))
        else:
            typer.echo("\n".join(runs.compare_lines(compared, blocks_for(sys.stdout.encoding))))


@app.command()
def best(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    metric: Annotated[str, typer.Option("--metric", help="Of evaluations.jsonl or metrics.jsonl.")] = "pass@1",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Name the best checkpoint on disk by held-out pass@1; of equals, the later one. Its path ends the line.

    Only whole checkpoints count, every byte verified.

    Example: grpo runs best runs/quickstart | awk '{print $NF}'
    """
    with reported(debug=debug, interrupted=_NOTHING):
        found = runs.best(run, metric)
        text = f"step {found['step']}  {metric} {found['value']:.4g}  {found['path']}"
        typer.echo(json.dumps(found) if as_json else text)
