"""What ``import grpo`` offers beside ``Run``: train and evaluate from a script or a notebook.

>>> import grpo
>>> run = grpo.train("recipes/quickstart.yaml", {"learner.learning_rate": 1e-4})  # doctest: +SKIP
>>> run.best()  # doctest: +SKIP
PosixPath('runs/quickstart/checkpoints/step-00000090')
"""

from pathlib import Path
from typing import TYPE_CHECKING

from grpo.recipe import Overrides, Recipe, load_recipe, with_overrides
from grpo.run import Run, recipe_for

if TYPE_CHECKING:
    from grpo.evaluation import Evaluation


def train(
    recipe: Recipe | Path | str,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    allow_change: bool = False,
    quiet: bool = False,
) -> Run:
    """Train to the end of a recipe, in this process.

    In the main thread the first Ctrl-C (a notebook's interrupt, SIGTERM) finishes the step and saves, and then
    KeyboardInterrupt is raised: a script must not take half a run for a whole one. ``load_run`` reads what there is,
    and ``resume=True`` goes on.

    Args:
        recipe: a file, or a recipe from ``load_recipe``.
        overrides: values by key path, ``{"learner.learning_rate": 1e-4}``, or texts as on the command line.
        resume: go on from the newest whole checkpoint of ``output_dir``, if there is one.
        allow_change: resume though recipe, data or packages have changed.
        quiet: print warnings and the closing table alone.

    Raises:
        UserError: something to mend in the recipe, its data or this machine; no run folder is left behind.
        RunError: the run cannot go on; ``resume=True`` goes on from its last checkpoint.
        KeyboardInterrupt: it was interrupted, or ``max_time`` drew near; the last step is saved.
    """
    resolved = with_overrides(recipe, overrides) if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    from grpo.launch import train as launch

    try:
        launch(resolved, resume=resume, allow_change=allow_change, quiet=quiet)
    except KeyboardInterrupt as interrupt:
        folder = resolved.output_dir
        interrupt.add_note(f"grpo.load_run({folder!r}) reads the run; grpo.train(..., resume=True) goes on with it")
        raise
    return Run(resolved.output_dir)


def evaluate(
    target: Run | Path | str, recipe: Recipe | Path | str | None = None, overrides: Overrides = ()
) -> "Evaluation":
    """Held-out results of a run's newest whole checkpoint, a model folder or a hub id.

    Args:
        recipe: names problems and rewards; may be left out for a run, whose own it is then.

    Raises:
        UserError: ``target`` is no run or model, or has no recipe and none is given.
    """
    name = str(target.path if isinstance(target, Run) else target)
    resolved = with_overrides(recipe, overrides) if isinstance(recipe, Recipe) else recipe_for(name, recipe, overrides)
    from grpo.launch import evaluate_model as launch

    return launch(name, resolved)
