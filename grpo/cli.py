"""The command line. Exit codes: 0 done, 1 the run cannot go on, 2 something for the user to mend, 130 interrupted.

torch and vLLM are imported inside the commands that need them, after the recipe has been checked.
"""

import functools
import importlib.metadata
import json
import random
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from grpo import import_command, launch_command, reward_command, runs_command, sandbox_command
from grpo.command import (
    INTERRUPTED,
    AsJson,
    Debug,
    Force,
    Output,
    Overrides,
    RecipeArgument,
    complete_recipe,
    reported,
    write_out,
)
from grpo.recipe import load_recipe
from grpo.run import recipe_for

__all__ = ["INTERRUPTED", "app", "main", "reported"]

app = typer.Typer(
    help="Reinforcement learning of reasoning, with a vLLM engine, on a CPU or on GPUs.",
    epilog="Exit codes: 0 done. 1 the run cannot go on, or what was checked is not whole. 2 something for you to mend: "
    "a recipe, a file, an option; of plan: does not fit. 130 interrupted: train --resume goes on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"grpo {importlib.metadata.version('grpo')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Holds the options of ``grpo`` itself; the help is the app's."""


app.add_typer(runs_command.app, name="runs")
app.add_typer(import_command.app, name="import")
app.add_typer(reward_command.app, name="reward")
app.add_typer(launch_command.app, name="launch")
app.add_typer(sandbox_command.app, name="sandbox")

checkpoint_app = typer.Typer(help="Checkpoints.", no_args_is_help=True)
app.add_typer(checkpoint_app, name="checkpoint")

Target = Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder, a model folder or a hub id.")]
OwnRecipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="Names problems and rewards. Absent: the run's own.", autocompletion=complete_recipe),
]


@app.command()
def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Resume though recipe, data or packages have changed; it is said.")
    ] = False,
    output_dir: Annotated[Path | None, typer.Option("--output-dir", help="The run folder (key output_dir).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings and the last results alone.")] = False,
    debug: Debug = False,
) -> None:
    """Train a model by a recipe.

    Ctrl-C finishes the step, saves, and says how to go on; a second one ends at once.

    Example: grpo train recipes/quickstart.yaml max_steps=20 --output-dir runs/mine
    """
    changes = list(overrides or [])
    if output_dir is not None:
        changes.append(f"output_dir={json.dumps(str(output_dir))}")
    again = shlex.join(["grpo", "train", str(recipe), *changes, "--resume"])
    with reported(debug=debug, interrupted=f"Where a checkpoint was saved, this goes on from it: {again}"):
        resolved = load_recipe(recipe, changes)
        if sys.stderr.isatty() and not quiet:
            typer.echo("loading torch and transformers ...", err=True)  # takes seconds, before anything can be shown
        from grpo.launch import train as launch

        launch(resolved, resume=resume, allow_change=allow_change, quiet=quiet)


@app.command("eval")
def evaluate(
    target: Target,
    overrides: Overrides = None,
    recipe: OwnRecipe = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Evaluate a run or a model on the held-out problems of a recipe.

    Example: grpo eval runs/quickstart evaluation.num_samples=64
    """
    with reported(debug=debug, interrupted="Nothing was kept of this evaluation."):
        resolved = recipe_for(target, recipe, overrides or [])
        from grpo.launch import evaluate_model, show_evaluation

        evaluation = evaluate_model(target, resolved)
        if as_json:
            typer.echo(json.dumps(evaluation.to_json()))
        else:
            show_evaluation(evaluation, target)


@app.command()
def sample(
    target: Target,
    questions: Annotated[
        list[str] | None, typer.Argument(metavar="[QUESTION]...", help="As the data has them.")
    ] = None,
    recipe: OwnRecipe = None,
    num_samples: Annotated[int, typer.Option("-n", "--num-samples", help="Answers to each question.")] = 4,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Absent: evaluation.temperature. 0 is greedy.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Of one answer. Absent: rollout.max_completion_length.")
    ] = None,
    references: Annotated[
        list[str] | None, typer.Option("--reference", help="What is right; once for each question, in their order.")
    ] = None,
    held_out: Annotated[
        int, typer.Option("--held-out", help="Ask so many held-out problems of the recipe besides.")
    ] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ask a model or a run something; see its answers, judged where a reference is known.

    Example: grpo sample runs/quickstart "12 + 7 - 3 = ?" --reference 16 -n 2
    """
    with reported(debug=debug, interrupted="Nothing was kept of these answers."):
        resolved = recipe_for(target, recipe)
        from grpo.sample import sample, show

        asked = sample(
            target,
            resolved,
            questions or [],
            references=references or None,
            held_out=held_out,
            num_samples=num_samples,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        if as_json:
            typer.echo(json.dumps([one.to_json() for one in asked]))
        else:
            show(asked)


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    steps: Annotated[list[int] | None, typer.Option("--step", help="A step to run again; may be repeated.")] = None,
    verify: Annotated[int, typer.Option("--verify", min=0, help="So many steps besides, at random.")] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check a run's files against its hash chain, run steps of it again, and compare bit by bit.

    Example: grpo replay runs/quickstart --verify 3
    """
    with reported(debug=debug, interrupted="The run is as it was."):
        from grpo import replay as replaying

        recorded = replaying.read_recorded(run)
        say = functools.partial(typer.echo, err=as_json)  # standard output is the record's alone
        say(f"{run}: its files hold what its {len(recorded)} steps wrote")
        chosen = sorted({*(steps or []), *random.sample(sorted(recorded), min(verify, len(recorded)))})
        replaying.replay(run, recorded, chosen, say)
        if as_json:
            typer.echo(json.dumps({"run": str(run), "num_steps": len(recorded), "replayed": chosen}))
        elif chosen:
            typer.echo(f"{len(chosen)} of {len(chosen)} steps, run again, are what the run recorded")


@checkpoint_app.command("verify")
def checkpoint_verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A checkpoint, or the folder of a run.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare every byte of a checkpoint, or of all of a run's, with its manifest; exit code 1 if one is damaged.

    Example: grpo checkpoint verify runs/quickstart
    """
    with reported(debug=debug, interrupted="Not all was read."):
        from grpo.checkpoint import verify

        faults = dict(verify(folder))
        if as_json:
            typer.echo(json.dumps([{"path": str(path), "fault": fault} for path, fault in faults.items()]))
        for path, fault in () if as_json else faults.items():
            typer.echo(f"{'damaged' if fault else 'whole  '}  {path}{f': {fault}' if fault else ''}")
        if any(faults.values()):
            raise typer.Exit(1)


@app.command()
def check(recipe: RecipeArgument, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Check a recipe, and say what a run by it does and needs.

    Exit code 0 for a valid recipe, also where it says that a run does not fit: `grpo plan` judges the machine.

    Example: grpo check recipes/quickstart.yaml algorithm=gspo
    """
    with reported(debug=debug, interrupted="Nothing was checked."):
        from grpo.check import as_text, sections

        resolved = load_recipe(recipe, overrides or [])
        said = sections(resolved)
        typer.echo(json.dumps(said | {"recipe": resolved.model_dump()}) if as_json else as_text(said))


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    gpus: Annotated[str, typer.Option("--gpus", help="Such as 8xH100 or 2x24GB; cpu: this machine.")] = "cpu",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what memory a recipe needs on given GPUs, part by part, and what to change where it does not fit.

    Exit code 2 where it does not fit on the GPUs named; 0 where it does.

    Example: grpo plan recipes/r1_zero.yaml --gpus 16xH100
    """
    with reported(debug=debug, interrupted="Nothing was planned."):
        from grpo.plan import plan_of

        planned = plan_of(load_recipe(recipe, overrides or []), gpus)
        typer.echo(json.dumps(planned.to_json()) if as_json else planned.text)
        if not planned.fits:
            raise typer.Exit(2)


@app.command()
def data(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a recipe's data as a run would meet it: prompts and their tokens, lengths, what was left out and why.

    Exit code 2 where a run would refuse the data: a prompt that is too long, a row under on_bad_reference=fail.

    Example: grpo data recipes/quickstart.yaml
    """
    with reported(debug=debug, interrupted="Nothing was kept."):
        resolved = load_recipe(recipe, overrides or [])
        from grpo.data_report import report_of

        report = report_of(resolved)
        typer.echo(json.dumps(report.to_json()) if as_json else report.text())
        if report.refusals:
            raise typer.Exit(2)


@app.command()
def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what this machine has and lacks: packages, GPU, sandbox, disk, memory, hub; each line ok or with its fix.

    Exit code 1 where something is to mend.

    Example: grpo doctor
    """
    with reported(debug=debug, interrupted="Nothing more was looked at."):
        from grpo.doctor import findings

        found = []
        for finding in findings():
            found.append(finding)
            if not as_json:
                typer.echo(finding.line())
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in found]))
        if any(finding.fix for finding in found):
            raise typer.Exit(1)


@app.command()
def schema(output: Output = None, force: Force = False, debug: Debug = False) -> None:
    """Print the JSON Schema of a recipe, by which an editor completes and checks its keys: see docs/keys.md.

    Example: grpo schema --output recipe.schema.json
    """
    with reported(debug=debug, interrupted="Nothing was written."):
        from grpo.recipe.describe import json_schema

        write_out(json.dumps(json_schema(), indent=2) + "\n", output, force=force)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
