"""``grpo launch``: slurm."""

from typing import Annotated

import typer

from grpo.command import Debug, Overrides, RecipeArgument, reported
from grpo.recipe import load_recipe

app = typer.Typer(help="Job scripts that start a run on several nodes.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Keeps the command's name: a group of one would lose it."""


@app.command("slurm")
def launch_slurm(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Each runs as many learner processes.")] = 1,
    gpus_per_node: Annotated[int, typer.Option("--gpus-per-node", help="The job books them all.")] = 8,
    time: Annotated[str, typer.Option("--time", help="The job's limit: HH:MM:SS or D-HH:MM:SS.")] = "24:00:00",
    save_s: Annotated[int, typer.Option("--save-s", help="Seconds before it at which the run saves.")] = 600,
    partition: Annotated[
        str | None, typer.Option("--partition", help="Of the cluster; absent: the cluster's own choice.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print a job script for sbatch that trains a recipe on several nodes, and resumes when it is started again.

    Submit it with the environment active that grpo is installed in. GPUs that would stay idle are named on stderr.

    Example: grpo launch slurm recipes/r1_zero.yaml --nodes 2 > job.sh
    """
    with reported(debug=debug, interrupted="No script was made."):
        from grpo.slurm import idle_note, job_script

        changes = list(overrides or [])
        resolved = load_recipe(recipe, changes)
        typer.echo(
            job_script(
                recipe,
                changes,
                resolved,
                nodes=nodes,
                gpus_per_node=gpus_per_node,
                time=time,
                save_s=save_s,
                partition=partition,
            )
        )
        note = idle_note(resolved, nodes=nodes, gpus_per_node=gpus_per_node)
        if note is not None:
            typer.echo(note, err=True)
