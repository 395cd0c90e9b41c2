"""``grpo runs``: run folders side by side, as tables for people and as records for programs. Imports no torch."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo.errors import GrpoError, UserError
from grpo.recipe.resume import as_override, leaves
from grpo.run import ACCURACY, Run, with_interval
from grpo.run_folder import RECIPE
from grpo.sparkline import BLOCKS, sparkline

Record = dict[str, Any]
_KEPT_APART = ("output_dir",)  # differs between any two runs


def find_runs(folder: Path) -> list[Path]:
    """The run folders at and below ``folder``, by name.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder. Name one that holds run folders, as in: grpo runs list runs")
    found = []
    for path, below, names in os.walk(folder):
        if RECIPE in names:
            found.append(Path(path))
            below.clear()  # a run folder holds no other
    if not found:
        raise UserError(f"no run in '{folder}': no folder below it has a {RECIPE}. `grpo train` writes one")
    return sorted(found)


def summary(path: Path) -> Record:
    """What ``grpo runs list`` tells of one run; of one that cannot be read, ``path``, ``state`` and ``error``."""
    try:
        run = Run(path)
        settings, rewards = run.settings(), list(run.values("reward").values())
        evaluations = run.evaluations
        ends = [evaluations[0], evaluations[-1]] if evaluations else []
        before, newest = [record["values"].get(ACCURACY) for record in ends] or [None, None]
        return {
            "path": str(path),
            "model": str(settings.get("model", "?")),
            "step": run.step,
            "max_steps": settings["max_steps"],
            "state": run.state,
            "reward": rewards[-1] if rewards else None,
            "before": before,
            "newest": newest,
            "hours": run.hours,
            "bytes": run.num_bytes,
        }
    except GrpoError as error:
        return {"path": str(path), "state": "unreadable", "error": str(error)}


def list_lines(records: Sequence[Record]) -> Iterator[str]:
    """The table of ``summary`` records."""
    rows = [["run", "model", "step", "state", "reward", "pass@1", "hours", "size"]]
    for record in records:
        if "error" in record:
            rows.append([record["path"], "-", "-", record["state"], "-", "-", "-", "-"])
            continue
        course = f"{_number(record['before'])} -> {_number(record['newest'])}"
        rows.append(
            [
                record["path"],
                record["model"],
                f"{record['step']}/{record['max_steps']}",
                record["state"],
                _number(record["reward"]),
                course if record["newest"] is not None else "-",
                f"{record['hours']:.2f}",
                _size(record["bytes"]),
            ]
        )
    yield from columns(rows)
    yield from (f"{record['path']}: {record['error']}" for record in records if "error" in record)


def compare(paths: Sequence[Path], metric: str) -> Record:
    """Runs side by side: ``runs`` with each one's results, ``differing`` with the recipe keys whose values differ.

    A value is as an override has it; None where a run's recipe, of another version, has no such key.

    Raises:
        UserError: one is no run folder, or none has the metric.
    """
    if len(paths) < 2:
        raise UserError(f"'{paths[0]}' is one run: name another to compare it with")
    runs = [Run(path) for path in paths]
    keys = [leaves(run.settings()) for run in runs]
    names = sorted({name for of_run in keys for name in of_run if name not in _KEPT_APART})
    differing = {
        name: [as_override(of_run[name]) if name in of_run else None for of_run in keys]
        for name in names
        if any((name in of_run, of_run.get(name)) != (name in keys[0], keys[0].get(name)) for of_run in keys)
    }
    return {"metric": metric, "runs": [_results(run, metric) for run in runs], "differing": differing}


def _results(run: Run, metric: str) -> Record:
    evaluations = [record for record in run.evaluations if record["values"].get(ACCURACY) is not None]
    best = max(evaluations, key=lambda record: (record["values"][ACCURACY], record["step"]), default=None)
    course = run.known_values(metric) if run.step else run.values(metric)
    return {
        "path": str(run.path),
        "step": run.step,
        "state": run.state,
        "final": evaluations[-1] if evaluations else None,
        "best": best,
        "steps": list(course),
        "values": list(course.values()),
    }


def compare_lines(compared: Record, blocks: str = BLOCKS) -> Iterator[str]:
    """``compare`` as text; ``blocks`` are the sparklines' characters."""
    runs, metric = compared["runs"], compared["metric"]
    letters = [_letter(place) for place in range(len(runs))]
    for letter, run in zip(letters, runs, strict=True):
        yield f"{letter}  {run['path']}: {run['state']}, step {run['step']}"
    yield ""
    rows = [["", f"final {ACCURACY}", "at step", f"best {ACCURACY}", "at step", metric]]
    for letter, run in zip(letters, runs, strict=True):
        line = f"{sparkline(run['values'], width=20, blocks=blocks)} {_number(run['values'][-1])}" * bool(run["values"])
        rows.append([letter, *_evaluated(run["final"]), *_evaluated(run["best"]), line or "-"])
    yield from columns(rows)
    yield ""
    if not compared["differing"]:
        yield "no recipe key differs, but for output_dir"
        return
    table = [["recipe key", *letters]]
    for name, values in compared["differing"].items():
        table.append([name, *("-" if value is None else value for value in values)])
    yield from columns(table)


def best(path: Path, metric: str) -> Record:
    """The best whole checkpoint on disk; see ``Run.best``."""
    step, value, checkpoint = Run(path).best_step(metric)
    return {"step": step, "metric": metric, "value": value, "path": str(checkpoint)}


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as aligned lines.

    >>> list(columns([["a", "b"], ["long", "c"]]))
    ['a     b', 'long  c']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _evaluated(record: Mapping[str, Any] | None) -> tuple[str, str]:
    return (with_interval(record, ACCURACY), str(record["step"])) if record else ("-", "-")


def _letter(place: int) -> str:
    """A, B, ..., Z, A2, ..."""
    return chr(ord("A") + place % 26) + (str(place // 26 + 1) if place >= 26 else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _size(num_bytes: int) -> str:
    """Such as ``48 MB``."""
    size, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, _ = size / 1000, units.pop(0)
    return f"{size:.3g} {units[0]}"
