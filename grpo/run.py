"""A run seen from its folder: recipe, metrics, evaluations, checkpoints. Also while it is being written.

    >>> import grpo
    >>> run = grpo.load_run("runs/quickstart")  # doctest: +SKIP
    >>> run.metrics["reward"].plot()  # doctest: +SKIP

Everything is read anew whenever it is asked for. Imports no torch.
"""

import difflib
import functools
import html
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from grpo.checkpoint import complete_steps, newest_complete
from grpo.errors import UserError
from grpo.recipe import Overrides, Recipe, load_recipe, parse_yaml
from grpo.run_folder import FILES, RECIPE, nearest_run, read_lines
from grpo.sparkline import sparkline

if TYPE_CHECKING:
    from grpo.sample import Asked

State = Literal["finished", "running", "interrupted"]
PATIENCE_S = 120.0  # a run that wrote nothing for so long, and for five of its longest steps, is taken for ended
PATIENCE_STEPS = 5
ACCURACY = "pass@1"


class Run:
    """A run folder.

    Args:
        path: the folder, which holds the run's ``recipe.yaml``.

    Raises:
        UserError: it is no run folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / RECIPE).is_file():
            near = nearest_run(self.path)
            missing = "it is a file" if self.path.is_file() else "there is no such folder"
            found = f"it has no {RECIPE}" if self.path.is_dir() else missing
            hint = f"Did you mean {near}?" if near else "`grpo runs list FOLDER` shows those below a folder"
            raise UserError(f"'{self.path}' is no run folder: {found}. {hint}")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            RecipeError: an earlier version of this package wrote it, with keys that have other names now.
        """
        return load_recipe(self.path / RECIPE)

    def settings(self) -> dict[str, Any]:
        """The resolved recipe as it was written, unchecked: other versions' runs can be listed and compared too."""
        try:
            text = (self.path / RECIPE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path / RECIPE} cannot be read: {error}. Name another run folder") from error
        tree = parse_yaml(text, str(self.path / RECIPE))
        if not isinstance(tree, dict) or not isinstance(tree.get("max_steps"), int):
            raise UserError(f"{self.path / RECIPE} is no recipe that a run wrote: it has no max_steps")
        return tree

    def rows(self) -> list[dict[str, Any]]:
        """Everything logged, one dict per step, in order of steps; ``step`` is among its keys."""
        by_step: dict[int, dict[str, Any]] = {}
        for record in self._records("metrics", step=int):
            by_step.setdefault(record["step"], {}).update(record)
        return [by_step[step] for step in sorted(by_step)]

    @property
    def metrics(self) -> Any:
        """What was logged: a pandas DataFrame indexed by step, or ``rows()`` where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            return self.rows()
        rows = self.rows()
        return pandas.DataFrame(rows, columns=None if rows else ["step"]).set_index("step")

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Held-out results in the order they were made: ``step``, ``values`` and ``intervals`` by name."""
        return self._records("evaluations", step=int, values=dict, intervals=dict)

    @property
    def transcripts(self) -> list[dict[str, Any]]:
        """The sampled answers that the run has kept, with their verdicts."""
        return read_lines(self.path / "transcripts.jsonl")

    def checkpoints(self) -> dict[int, Path]:
        """The whole checkpoints on disk, every byte verified, by step."""
        return complete_steps(self.path / "checkpoints")

    def latest(self) -> Path | None:
        """The newest whole checkpoint; None where there is none."""
        return newest_complete(self.path / "checkpoints")

    def best(self, metric: str = ACCURACY) -> Path:
        """The whole checkpoint on disk whose step has the highest ``metric``; of equals, the later one.

        ``metric`` is a value of the evaluations (``pass@1``, ``maj@16``), or else one that was logged at that step.

        Raises:
            UserError: no checkpoint's step has it; the message says which steps and names there are.
        """
        return self.best_step(metric)[2]

    def best_step(self, metric: str = ACCURACY) -> tuple[int, float, Path]:
        """The step of ``best(metric)``, the metric there, and the checkpoint."""
        found, checkpoints = self.known_values(metric), self.checkpoints()
        candidates = [(value, step) for step, value in found.items() if step in checkpoints]
        if not candidates:
            raise UserError(
                f"run {self.path} has no whole checkpoint of a step with {metric!r}: checkpoints of steps "
                f"{_listed(checkpoints)}, {metric!r} of steps {_listed(found)}. Let checkpoint.every be a multiple of "
                "evaluation.every, and checkpoint.keep enough; `grpo eval` evaluates what is there"
            )
        value, step = max(candidates)
        return step, value, checkpoints[step]

    def values(self, metric: str) -> dict[int, float]:
        """A metric by step: of the evaluations where they have it, else as logged. Values that are no number are out.

        >>> Run("runs/quickstart").values("pass@1")  # doctest: +SKIP
        {0: 0.34, 50: 0.88, 90: 0.93}
        """
        evaluated = {record["step"]: record["values"].get(metric) for record in self.evaluations}
        if all(value is None for value in evaluated.values()):
            evaluated = {row["step"]: row.get(metric) for row in self.rows()}
        return {step: float(value) for step, value in evaluated.items() if isinstance(value, int | float)}

    def known_values(self, metric: str) -> dict[int, float]:
        """As ``values``.

        Raises:
            UserError: no step has the metric; the message names the nearest.
        """
        found = self.values(metric)
        if not found:
            raise UserError(f"run {self.path} has no metric {metric!r}{self._nearest_metric(metric)}")
        return found

    def _records(self, name: str, **kinds: type) -> list[dict[str, Any]]:
        """The records of one of the files, each with keys of these kinds, as a run writes them."""
        path = self.path / f"{name}.jsonl"
        records = read_lines(path)
        for number, record in enumerate(records, start=1):
            for key, kind in kinds.items():
                if not isinstance(record.get(key), kind):
                    raise UserError(f"{path}, line {number}: no line that a run wrote ({key}). Remove that line")
        return records

    def _nearest_metric(self, metric: str) -> str:
        names = {name for record in self.evaluations for name in record["values"]}
        names |= {name for row in self.rows()[-20:] for name in row}
        if not names:
            return ": nothing was logged yet"
        near = difflib.get_close_matches(metric, sorted(names), n=1, cutoff=0.4)
        return f". The nearest is {near[0]!r}" if near else f". It has {', '.join(sorted(names)[:8])}, ..."

    @property
    def step(self) -> int:
        """The newest step that was logged."""
        return max((row["step"] for row in self.rows()), default=0)

    @property
    def state(self) -> State:
        """``finished`` when the last step was evaluated; else ``running`` as long as its files still grow.

        Nothing in a run folder says that a process lives: a run that wrote nothing for two minutes, and for five
        times its longest step or evaluation, is called interrupted.
        """
        max_steps = self.settings()["max_steps"]
        if any(record["step"] >= max_steps for record in self.evaluations):
            return "finished"
        steps = [max(row.get("step_time") or 0.0, row.get("time/evaluate_s") or 0.0) for row in self.rows()]
        patience = max(PATIENCE_S, PATIENCE_STEPS * max(steps, default=0.0))
        return "running" if time.time() - self._written_at() < patience else "interrupted"

    def _written_at(self) -> float:
        paths = [self.path / RECIPE, *(self.path / f"{name}.jsonl" for name in FILES), self.path / "checkpoints"]
        return max(path.stat().st_mtime for path in paths if path.exists())

    @property
    def hours(self) -> float:
        """Wall clock of all steps, evaluations and checkpoints that were logged; starts are not."""
        timed = ("step_time", "time/evaluate_s", "time/checkpoint_s")
        return sum(row.get(name) or 0.0 for row in self.rows() for name in timed) / 3600

    @property
    def num_bytes(self) -> int:
        """Size on disk; files that go while it is counted do not count."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_size
                except FileNotFoundError:
                    continue
        return total

    def sample(
        self,
        questions: str | Sequence[str],
        *,
        references: Sequence[str] | None = None,
        num_samples: int = 4,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> "list[Asked]":
        """Ask the newest checkpoint; see ``grpo.sample.sample``."""
        from grpo.sample import sample

        questions = [questions] if isinstance(questions, str) else list(questions)
        return sample(
            str(self.path),
            self.recipe,
            questions,
            references=references,
            num_samples=num_samples,
            temperature=temperature,
            max_tokens=max_tokens,
        )

    def _repr_html_(self) -> str:
        """For notebooks: held-out results before and now, and the course of the reward."""
        text = functools.partial(html.escape, quote=True)
        evaluations, rewards = self.evaluations, list(self.values("reward").values())
        head, rows = "<th></th>", ""
        if evaluations:
            first, last = evaluations[0], evaluations[-1]
            head += f"<th>step {first['step']}</th><th>step {last['step']}</th>"
            for name in (ACCURACY, "mean_length", "reasons"):
                cells = "".join(f"<td>{text(with_interval(record, name))}</td>" for record in (first, last))
                rows += f"<tr><th>{text(name)}</th>{cells}</tr>"
        course = f"reward <code>{sparkline(rewards)}</code> {rewards[-1]:.3g}" if rewards else "no step yet"
        place = text(str(self.path))
        return (
            f"<p><b>{place}</b>: {self.state}, step {self.step} of {self.settings()['max_steps']}</p>"
            f"<table><tr>{head}</tr>{rows}</table><p>{course}</p>"
        )


def load_run(folder: Path | str) -> Run:
    """The run in a folder.

    Raises:
        UserError: it is no run folder.
    """
    return Run(folder)


def recipe_for(target: str, recipe: Path | str | None, overrides: Overrides = ()) -> Recipe:
    """The recipe by which a model or run is evaluated or asked: the one given, else the run's own.

    ``target`` may be a run folder, a checkpoint in one, a model folder or a hub id; only the first two have their own.

    Raises:
        UserError: no recipe is given, and ``target`` has none; or as ``load_recipe``.
    """
    if recipe is not None:
        return load_recipe(recipe, overrides)
    for folder in (Path(target), Path(target).resolve().parent.parent):
        if (folder / RECIPE).is_file():
            return load_recipe(folder / RECIPE, overrides)
    near = nearest_run(Path(target))
    raise UserError(
        f"'{target}' is no run folder, so no recipe says what its problems and rewards are. "
        + (f"Did you mean {near}?" if near else "Name one: --recipe recipes/quickstart.yaml, say")
    )


def with_interval(evaluation: Mapping[str, Any], name: str) -> str:
    """Such as ``0.882 [0.856, 0.905]``; ``-`` where there is no such number."""
    value, interval = evaluation["values"].get(name), evaluation["intervals"].get(name)
    if value is None or not math.isfinite(value):
        return "-"
    whole = interval and None not in interval
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if whole else f"{value:.3f}"


def _listed(steps: Mapping[int, object]) -> str:
    return ", ".join(map(str, sorted(steps))) or "none"
