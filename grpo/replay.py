"""``grpo replay``: steps of a finished run once more, in another folder, compared with its hash chain bit by bit."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from grpo.chain import Record, difference, read_chain
from grpo.checkpoint import complete_steps
from grpo.errors import ReplayError, UserError
from grpo.launch import run_of
from grpo.recipe import Recipe, parse_recipe
from grpo.run_folder import FILES, RECIPE, nearest_run


def replay(run: Path, recorded: dict[int, Record], steps: Sequence[int], report: Callable[[str], None]) -> None:
    """Run steps of a run again, each from the nearest whole checkpoint before it, and compare.

    Args:
        run: the run folder; nothing in it is written.
        recorded: its chain (``read_recorded``).
        report: is told of each step that came out the same.

    Raises:
        UserError: a step is not among those that the run finished.
        ReplayError: it names the first step and field that differ.
    """
    unknown = [step for step in steps if step not in recorded]
    if unknown:
        raise UserError(f"step {unknown[0]} is not in {run}: it finished steps {min(recorded)} to {max(recorded)}")
    pending = sorted(set(steps))
    starts = complete_steps(run / "checkpoints") if pending else {}
    while pending:
        start = max((step for step in starts if step < pending[0]), default=0)
        later = min((step for step in starts if step > start), default=pending[-1])
        stretch = [step for step in pending if step <= max(later, pending[0])]
        _replay_stretch(run, starts.get(start), stretch, recorded, report)
        pending = pending[len(stretch) :]


def read_recorded(run: Path) -> dict[int, Record]:
    """The chain of a run folder, checked against its files; see ``read_chain``.

    Raises:
        UserError: ``run`` is no run folder.
    """
    if not (run / RECIPE).is_file():
        near = nearest_run(run)
        hint = f"Did you mean {near}?" if near else "`grpo runs list FOLDER` shows those below a folder"
        raise UserError(f"'{run}' is no run folder: it has no {RECIPE}. {hint}")
    return read_chain(run)


def _replay_stretch(
    run: Path, checkpoint: Path | None, steps: Sequence[int], recorded: dict[int, Record], report: Callable[[str], None]
) -> None:
    """From one checkpoint, or from the model, through the last of ``steps``; those between are compared too."""
    with tempfile.TemporaryDirectory(prefix="grpo-replay-") as scratch:
        recipe = _copy(run, checkpoint, Path(scratch) / "run")
        with run_of(recipe, resume=checkpoint is not None) as trainer:
            for step in trainer.replay(until=steps[-1]):
                if step in steps:
                    _compare(recorded, read_chain(trainer.folder.path))
                    report(f"step {step}: the same, weights {recorded[step]['weights']}")


def _copy(run: Path, checkpoint: Path | None, to: Path) -> Recipe:
    """A run folder to go on from, over the checkpoint where it lies; without one, nothing, to begin in."""
    recipe = parse_recipe((run / RECIPE).read_text(encoding="utf-8"))
    log = recipe.log.model_copy(update={"report_to": []})
    if checkpoint is not None:
        (to / "checkpoints").mkdir(parents=True)
        shutil.copy(run / RECIPE, to)
        for name in FILES:
            shutil.copy(run / f"{name}.jsonl", to)
        (to / "checkpoints" / checkpoint.name).symlink_to(checkpoint.resolve(), target_is_directory=True)
    return recipe.model_copy(update={"output_dir": str(to), "log": log})


def _compare(recorded: dict[int, Record], replayed: dict[int, Record]) -> None:
    for step, record in replayed.items():
        if (field := difference(recorded[step], record)) is not None:
            raise ReplayError(
                f"step {step}, field '{field}': the run recorded {recorded[step].get(field)}, and run again it gave "
                f"{record.get(field)}"
            )
