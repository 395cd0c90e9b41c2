"""Run folders side by side, whole ones and ones that are being written, with real checkpoints."""

import json
import os
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grpo.checkpoint_store import CheckpointStore, Retention
from grpo.cli import app
from grpo.errors import RecipeError, UserError
from grpo.recipe import SHIPPED, load_recipe, to_yaml
from grpo.run import Run, recipe_for
from grpo.runs import compare, compare_lines, find_runs, list_lines, summary
from grpo.sparkline import ASCII_BLOCKS, blocks_for, sparkline

ACCURACY = {0: 0.2, 2: 0.5, 4: 0.5}


def evaluation(step: int, accuracy: float) -> dict[str, object]:
    return {"step": step, "values": {"pass@1": accuracy}, "intervals": {"pass@1": [accuracy - 0.1, accuracy + 0.1]}}


def write_run(folder: Path, *overrides: str, steps: int = 4, evaluated: dict[int, float] = ACCURACY) -> Path:
    """A run as the trainer leaves it: each step logged, an evaluation's values in a record of their own."""
    folder.mkdir(parents=True)
    recipe = load_recipe(SHIPPED / "quickstart.yaml", ["max_steps=4", f"output_dir={folder}", *overrides])
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    rows = [{"step": step, "reward": step / 10, "step_time": 1800.0} for step in range(1, steps + 1)]
    rows += [{"step": step, "time/evaluate_s": 900.0} for step in evaluated]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = [evaluation(step, accuracy) for step, accuracy in evaluated.items()]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def save(folder: Path, *steps: int) -> None:
    with CheckpointStore(folder / "checkpoints", retention=Retention(keep=9)) as store:
        for step in steps:
            store.save(step, lambda path: (path / "model.safetensors").write_bytes(b"weights" * 9) and None)


def grpo(*args: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, args)
    assert done.exit_code == code, done.output
    return done.output


def test_a_run_is_summed_up_from_its_files(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    record = summary(tmp_path / "a")
    assert record["bytes"] > 0
    assert {name: record[name] for name in ("step", "max_steps", "state", "reward", "before", "newest", "hours")} == {
        **{"step": 4, "max_steps": 4, "state": "finished", "reward": 0.4},
        **{"before": 0.2, "newest": 0.5, "hours": 2.75},
    }
    assert "4/4" in "\n".join(list_lines([record]))


def test_a_run_that_is_silent_for_long_is_interrupted_and_one_that_grows_is_running(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", steps=2, evaluated={0: 0.2})
    assert Run(folder).state == "running"
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    assert Run(folder).state == "interrupted"


def test_a_line_that_is_being_written_is_left_for_the_next_reader(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "rew')
    assert Run(folder).step == 4
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 8: no JSON object"):
        Run(folder).rows()
    assert summary(folder)["state"] == "unreadable"


def test_a_run_of_another_version_is_listed_though_its_recipe_has_other_keys(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    with (folder / "recipe.yaml").open("a") as file:
        file.write("an_old_key: 3\n")
    assert summary(folder)["state"] == "finished"
    with pytest.raises(RecipeError, match="an_old_key"):
        _ = Run(folder).recipe
    other = write_run(tmp_path / "b")
    assert compare([folder, other], "reward")["differing"] == {"an_old_key": ["3", None]}


def test_the_best_checkpoint_is_whole_on_disk_and_of_equals_the_later(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a b")
    save(folder, 1, 2, 4)
    assert Run(folder).best() == folder / "checkpoints" / "step-00000004"
    assert grpo("runs", "best", str(folder)).rstrip().endswith(str(folder / "checkpoints" / "step-00000004"))
    (folder / "checkpoints" / "step-00000004" / "model.safetensors").write_bytes(b"damaged" * 9)
    assert Run(folder).best() == folder / "checkpoints" / "step-00000002"
    assert json.loads(grpo("runs", "best", str(folder), "--metric", "reward", "--json"))["step"] == 2
    with pytest.raises(UserError, match=r"no metric 'pass@2'\. The nearest is 'pass@1'"):
        Run(folder).best("pass@2")


def test_without_an_evaluated_checkpoint_the_message_says_which_steps_there_are(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    save(folder, 3)
    with pytest.raises(UserError, match=r"checkpoints of steps 3, 'pass@1' of steps 0, 2, 4"):
        Run(folder).best()


def test_runs_are_compared_by_what_differs(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one")
    other = write_run(tmp_path / "other", "learner.learning_rate=1e-4", evaluated={0: 0.2, 4: 0.9})
    compared = compare([one, other], "reward")
    assert compared["differing"] == {"learner.learning_rate": ["0.0003", "0.0001"]}
    lines = list(compare_lines(compared))
    assert next(line for line in lines if line.startswith("B  0.9")).endswith("▁▃▆█ 0.4")
    assert "0.900 [0.800, 1.000]" in grpo("runs", "compare", str(one), str(other))
    with pytest.raises(UserError, match="no metric 'rewrad'. The nearest is 'reward'"):
        compare([one, other], "rewrad")


def test_runs_are_found_at_any_depth_and_not_within_each_other(tmp_path: Path) -> None:
    for name in ("sweep/a", "sweep/b", "c"):
        write_run(tmp_path / name)
    write_run(tmp_path / "c" / "logs" / "inner")
    assert find_runs(tmp_path) == [tmp_path / "c", tmp_path / "sweep" / "a", tmp_path / "sweep" / "b"]
    assert [record["path"] for record in json.loads(grpo("runs", "list", str(tmp_path), "--json"))] == [
        str(path) for path in find_runs(tmp_path)
    ]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("runs list nowhere", "'nowhere' is no folder"),
        ("runs list empty", "no run in 'empty'"),
        ("runs best runs/mime", "Did you mean runs/mine?"),
        ("runs compare runs/mine empty", "it has no recipe.yaml"),
        ("eval empty", "so no recipe says what its problems and rewards are"),
    ],
)
def test_what_is_no_run_is_said(command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_run(Path("runs/mine"))
    assert said in grpo(*shlex.split(command), code=2)


def test_a_runs_own_recipe_serves_it_and_its_checkpoints(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    save(folder, 2)
    for target in (folder, folder / "checkpoints" / "step-00000002"):
        assert recipe_for(str(target), None, {"seed": 7}).seed == 7


def test_a_sparkline_takes_what_the_stream_can_show() -> None:
    assert sparkline([], width=5) == ""
    assert len(sparkline(range(1000), width=30)) == 30
    assert sparkline([0, 1], blocks=blocks_for("ascii")) == ASCII_BLOCKS[0] + ASCII_BLOCKS[-1]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.jsonl", b"{}\n"),
        ("metrics.jsonl", b"[]\n"),
        ("metrics.jsonl", b'{"step": null}\n'),
        ("evaluations.jsonl", b'{"step": 3}\n'),
        ("evaluations.jsonl", b'{"step": 3, "values": null, "intervals": {}}\n'),
        ("recipe.yaml", b"\xff\xfe"),
    ],
)
def test_one_run_that_no_run_wrote_hides_no_other(file: str, content: bytes, tmp_path: Path) -> None:
    write_run(tmp_path / "whole")
    (write_run(tmp_path / "broken") / file).write_bytes(content)
    shown = grpo("runs", "list", str(tmp_path))
    assert "4/4" in shown
    assert f"{tmp_path / 'broken' / file}" in shown


def test_a_mistyped_run_is_suggested_where_a_model_may_stand_too(tmp_path: Path) -> None:
    write_run(tmp_path / "roman")
    with pytest.raises(UserError, match=r"Did you mean .*/roman\?"):
        recipe_for(str(tmp_path / "romn"), None)
