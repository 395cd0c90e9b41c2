"""The command line: ``grpo`` train, eval, replay, check, plan, checkpoint, launch, reward, sandbox, doctor.

Exit codes: 0 done, 1 the run cannot go on, 2 something for the user to mend, 130 interrupted. torch and vLLM are
imported inside the commands that need them, after the recipe has been checked.
"""

import json
import random
import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from grpo.errors import GrpoError
from grpo.recipe import load_recipe

INTERRUPTED = 130  # what a shell reports of a process ended by SIGINT

app = typer.Typer(
    help="Reinforcement learning of reasoning, with a vLLM engine, on a CPU or on GPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

reward_app = typer.Typer(help="Reward functions.", no_args_is_help=True)
app.add_typer(reward_app, name="reward")
launch_app = typer.Typer(help="Job scripts that start a run on several nodes.", no_args_is_help=True)
app.add_typer(launch_app, name="launch")
sandbox_app = typer.Typer(help="The sandbox for programs that a model wrote.", no_args_is_help=True)
app.add_typer(sandbox_app, name="sandbox")

checkpoint_app = typer.Typer(help="Checkpoints.", no_args_is_help=True)
app.add_typer(checkpoint_app, name="checkpoint")

RecipeArgument = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe file, such as recipes/quickstart.yaml")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="As in learner.learning_rate=1e-4")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Resume though recipe, data or packages have changed; it is said.")
    ] = False,
    output_dir: Annotated[Path | None, typer.Option("--output-dir", help="The run folder (key output_dir).")] = None,
    debug: Debug = False,
) -> None:
    """Train a model by a recipe."""
    changes = list(overrides or [])
    if output_dir is not None:
        changes.append(f"output_dir={json.dumps(str(output_dir))}")
    again = shlex.join(["grpo", "train", str(recipe), *changes, "--resume"])
    with reported(debug=debug, interrupted=f"Where a checkpoint was saved, this goes on from it: {again}"):
        resolved = load_recipe(recipe, changes)
        from grpo.launch import train as launch

        launch(resolved, resume=resume, allow_change=allow_change)


@app.command("eval")
def evaluate(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder, a model folder or a hub id.")],
    recipe: Annotated[Path, typer.Option("--recipe", help="The recipe that names problems and rewards.")],
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object in place of the table.")] = False,
    debug: Debug = False,
) -> None:
    """Evaluate a run or a model on the held-out problems of a recipe."""
    with reported(debug=debug, interrupted="Nothing was kept of this evaluation."):
        resolved = load_recipe(recipe, overrides or [])
        from grpo.launch import evaluate_model, show_evaluation

        evaluation = evaluate_model(target, resolved)
        if as_json:
            typer.echo(json.dumps(evaluation.to_json()))
        else:
            show_evaluation(evaluation, target)


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    steps: Annotated[list[int] | None, typer.Option("--step", help="A step to run again; may be repeated.")] = None,
    verify: Annotated[int, typer.Option("--verify", min=0, help="So many steps besides, at random.")] = 0,
    debug: Debug = False,
) -> None:
    """Check a run's files against its hash chain, run steps of it again, and compare bit by bit."""
    with reported(debug=debug, interrupted="The run is as it was."):
        from grpo import replay as replaying

        recorded = replaying.read_recorded(run)
        typer.echo(f"{run}: its files hold what its {len(recorded)} steps wrote")
        chosen = sorted({*(steps or []), *random.sample(sorted(recorded), min(verify, len(recorded)))})
        replaying.replay(run, recorded, chosen, typer.echo)
        if chosen:
            typer.echo(f"{len(chosen)} of {len(chosen)} steps, run again, are what the run recorded")


@checkpoint_app.command("verify")
def checkpoint_verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A checkpoint, or the folder of a run.")],
    debug: Debug = False,
) -> None:
    """Compare every byte of a checkpoint, or of all of a run's, with its manifest; exit code 1 if one is damaged."""
    with reported(debug=debug, interrupted="Not all was read."):
        from grpo.checkpoint import verify

        faults = dict(verify(folder))
        for path, fault in faults.items():
            typer.echo(f"{'damaged' if fault else 'whole  '}  {path}{f': {fault}' if fault else ''}")
        if any(faults.values()):
            raise typer.Exit(1)


@app.command()
def check(recipe: RecipeArgument, overrides: Overrides = None, debug: Debug = False) -> None:
    """Check a recipe, and say what a run by it does and needs.

    Exit code 0 for a valid recipe, also where it says that a run does not fit: `grpo plan` judges the machine.
    """
    with reported(debug=debug, interrupted="Nothing was checked."):
        from grpo.check import report

        typer.echo(report(load_recipe(recipe, overrides or [])))


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    gpus: Annotated[str, typer.Option("--gpus", help="Such as 8xH100 or 2x24GB; cpu: this machine.")] = "cpu",
    debug: Debug = False,
) -> None:
    """Say what memory a recipe needs on given GPUs, part by part, and what to change where it does not fit.

    Exit code 2 where it does not fit on the GPUs named; 0 where it does.
    """
    with reported(debug=debug, interrupted="Nothing was planned."):
        from grpo.plan import plan_of

        planned = plan_of(load_recipe(recipe, overrides or []), gpus)
        typer.echo(planned.text)
        if not planned.fits:
            raise typer.Exit(2)


@app.command()
def data(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Show a recipe's data as a run would meet it: prompts and their tokens, lengths, what was left out and why.

    Exit code 2 where a run would refuse the data: a prompt that is too long, a row under on_bad_reference=fail.
    """
    with reported(debug=debug, interrupted="Nothing was kept."):
        resolved = load_recipe(recipe, overrides or [])
        from grpo.data_report import report_of

        report = report_of(resolved)
        typer.echo(json.dumps(report.to_json()) if as_json else report.text())
        if report.refusals:
            raise typer.Exit(2)


@launch_app.command("slurm")
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


@reward_app.command("test")
def reward_test(
    function: Annotated[
        str, typer.Argument(help="FILE.py:FUNCTION, package.module:FUNCTION, or a name such as number")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="A .jsonl file with question and answer, or a run's transcripts.jsonl."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Try a reward function: verdicts on samples, time, memory, and texts that a policy may come to write."""
    with reported(debug=debug, interrupted="Nothing was kept of this trial."):
        from grpo.reward_trial import report_trial

        typer.echo(report_trial(function, arguments or [], data))


@sandbox_app.command("serve")
def sandbox_serve(
    host: Annotated[str, typer.Option("--host", help="Other than loopback needs GRPO_SANDBOX_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8080,
    num_workers: Annotated[int, typer.Option("--num-workers", help="Programs at a time.")] = 2,
    max_queue: Annotated[int, typer.Option("--max-queue", help="Programs that may wait; beyond, 503.")] = 256,
    debug: Debug = False,
) -> None:
    """Run programs for others over HTTP: SandboxFusion's contract, for Python."""
    with reported(debug=debug, interrupted="Served to the end."):
        from grpo.errors import UserError
        from rewards.sandbox import SandboxUnavailableError
        from rewards.sandbox_server import serve

        try:
            serve(
                host,
                port,
                num_workers=num_workers,
                max_queue=max_queue,
                on_ready=lambda server: typer.echo(f"taking programs at {server.url}"),
            )
        except (ValueError, OSError, SandboxUnavailableError) as error:
            raise UserError(f"the sandbox cannot be served at {host}:{port}: {error}") from error


@app.command()
def doctor(debug: Debug = False) -> None:
    """Say what this machine has and lacks: packages, GPU, sandbox, disk, memory."""
    with reported(debug=debug, interrupted="Nothing more was looked at."):
        from grpo.doctor import findings

        found = []
        for finding in findings():
            found.append(finding)
            typer.echo(finding.line())
        if any(finding.fix for finding in found):
            raise typer.Exit(1)


@contextmanager
def reported(*, debug: bool, interrupted: str) -> Iterator[None]:
    """Turn what is raised within into one message on stderr and an exit code; a traceback only with ``debug``."""
    try:
        yield
    except typer.Exit:
        raise
    except GrpoError as error:
        raise _exit(f"error: {error}", error.exit_code, debug=debug) from error
    except KeyboardInterrupt as error:
        raise _exit(f"interrupted. {interrupted}", INTERRUPTED, debug=debug) from error
    except Exception as error:  # the one place that may: a user should not meet a traceback unasked
        hint = "" if debug else " (--debug shows the traceback)"
        raise _exit(f"unexpected error: {type(error).__name__}: {error}{hint}", 1, debug=debug) from error


def _exit(message: str, code: int, *, debug: bool) -> typer.Exit:
    if debug:
        traceback.print_exc()
    typer.echo(message, err=True)
    return typer.Exit(code)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
