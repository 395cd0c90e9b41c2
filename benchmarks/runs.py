"""Runs of the command line in processes of their own, and what their run folders say."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True)
class Run:
    """A finished ``grpo train``: its folder and its wall clock, start-up and evaluations included."""

    folder: Path
    seconds: float

    def evaluations(self) -> list[dict[str, Any]]:
        return read_lines(self.folder / "evaluations.jsonl")

    def steps(self) -> list[dict[str, Any]]:
        """The metrics of each training step."""
        return [line for line in read_lines(self.folder / "metrics.jsonl") if "step_time" in line]

    def median(self, metric: str) -> float:
        """Over the steps after the first two, which warm up, and which learned something."""
        return median(step[metric] for step in self.steps()[2:] if metric in step)

    @property
    def before(self) -> dict[str, float]:
        values: dict[str, float] = self.evaluations()[0]["values"]
        return values

    @property
    def after(self) -> dict[str, float]:
        values: dict[str, float] = self.evaluations()[-1]["values"]
        return values


def train(recipe: str, folder: Path, overrides: Sequence[str] = ()) -> Run:
    """Run a shipped recipe (or a path) to its end; its output is shown as it comes."""
    path = RECIPES / f"{recipe}.yaml" if not recipe.endswith(".yaml") else Path(recipe)
    return run_program(
        [sys.executable, "-m", "grpo.cli", "train", str(path), f"output_dir={folder}", *overrides], folder
    )


def run_program(command: Sequence[str], folder: Path) -> Run:
    """A command that leaves a run in ``folder``; its output is shown as it comes."""
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return Run(folder, time.perf_counter() - started)


def evaluate(target: Path | str, recipe: str, overrides: Sequence[str] = ()) -> dict[str, float]:
    """Evaluate a model or a run folder on a recipe's held-out problems; the values by name."""
    path = RECIPES / f"{recipe}.yaml"
    command = [sys.executable, "-m", "grpo.cli", "eval", str(target), "--recipe", str(path), "--json", *overrides]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    values: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])["values"]
    return values


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
