"""What a user gets wrong: one message that names key or file, value and fix; exit code 2; nothing left behind.

The rows are in ``bad_input``: a command, the files in the folder that it is given in (beside the shipped quickstart),
and all that it says. ``$HERE`` stands for that folder; COPY is the quickstart's text.
"""

import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from grpo.cli import app
from grpo.errors import CheckpointError, UserError
from grpo.launch import train
from grpo.recipe import SHIPPED, load_recipe

QUICKSTART = SHIPPED / "quickstart.yaml"
TABLES = {
    path.stem: yaml.safe_load(path.read_text("utf-8")) for path in Path(__file__).with_name("bad_input").iterdir()
}
ROWS = [pytest.param(row, id=f"{kind}-{row['id']}") for kind, rows in TABLES.items() for row in rows]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, with the shipped quickstart in it."""
    shutil.copy(QUICKSTART, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a user's function adds its folder
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path below, with its content where it is a file."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("row", ROWS)
def test_a_mistake_has_its_message_and_leaves_nothing(row: dict[str, Any], here: Path) -> None:
    for name, content in row.get("files", {}).items():
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(QUICKSTART.read_text("utf-8") if content == "COPY" else content, encoding="utf-8")
    before = listing(here)
    program, *args = shlex.split(row["command"])
    done = CliRunner().invoke(app, args, prog_name=program)
    said = done.stderr.replace(str(here), "$HERE").rstrip("\n").removeprefix("error: ")
    assert said == row["says"]
    assert (done.exit_code, done.stdout.strip()) == (2, "")
    assert listing(here) == before


def test_the_table_has_every_kind_and_no_row_twice() -> None:
    assert {kind: len(rows) >= 30 for kind, rows in TABLES.items()} == dict.fromkeys(
        ("recipes", "data", "commands"), True
    )
    for rows in TABLES.values():
        names = [row["id"] for row in rows]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("args", [["train", "quickstart.yaml", "colour=blue"], ["runs", "best", "nowhere"]])
def test_no_traceback_from_a_shell(args: list[str], here: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(SHIPPED.parent)}
    command = [sys.executable, "-m", "grpo", *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def lines_on_a_terminal(args: list[str]) -> Iterator[str]:
    """What a command writes to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(SHIPPED.parent), "COLUMNS": "80"}
    subprocess.run([sys.executable, "-m", "grpo", *args], stderr=follower, env=environment, check=False)
    os.close(follower)
    yield from os.read(leader, 1 << 16).decode().splitlines()
    os.close(leader)


def test_a_long_message_wraps_at_words_on_a_terminal(here: Path) -> None:
    command = ["check", "quickstart.yaml", "rollout.top_p=0.9"]
    lines = list(lines_on_a_terminal(command))
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    piped = CliRunner().invoke(app, command).stderr
    assert " ".join(lines) == piped.rstrip("\n")


def attempt(folder: Path, *overrides: str) -> str:
    """The message of the UserError that this run ends in."""
    with pytest.raises(UserError) as caught:
        train(load_recipe(QUICKSTART, [f"output_dir={folder / 'run'}", *overrides]), resume=False)
    assert caught.value.exit_code == 2
    assert not (folder / "run").exists(), "a start that failed left a run folder"
    return str(caught.value)


def test_no_vllm_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("grpo.engine.vllm_engine")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name == "vllm" or name.startswith("vllm.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "vllm", None)
    message = attempt(tmp_path)
    assert "grpo[cpu]" in message
    assert "rollout.engine: transformers" in message


def test_a_full_disk_at_a_checkpoint_ends_the_run_and_says_so(tmp_path: Path, small_disk: Path) -> None:
    recipe = load_recipe(
        QUICKSTART,
        [
            f"output_dir={small_disk / 'run'}",
            "rollout.engine=transformers",
            "rollout.problems_per_step=2",
            "rollout.num_generations=2",
            "max_steps=1",
            "evaluation.num_samples=1",
            "evaluation.every=0",
            "data.num_held_out=8",
        ],
    )
    with pytest.raises(CheckpointError, match="Free some space") as caught:
        train(recipe, resume=False)
    assert caught.value.exit_code == 1
    assert not list((small_disk / "run" / "checkpoints").glob("*step*"))
    assert (small_disk / "run" / "metrics.jsonl").stat().st_size > 0
