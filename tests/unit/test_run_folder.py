"""The run folder: whole lines at every instant, no run overwritten, exact positions to resume from."""

import json
import subprocess
import sys
import textwrap
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from grpo.errors import CheckpointError, RunError, UserError
from grpo.run_folder import JsonLines, RunFolder


def read(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


LENGTHS = [1800, 400, 1950, 30, 1900, 1960, 700]


def test_no_line_crosses_a_page_of_memory_and_each_is_one_record(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "a.jsonl")
    for number in range(200):
        lines.append({"step": number, "filler": "x" * LENGTHS[number % len(LENGTHS)]})
    end = 0
    for number, line in enumerate(lines.path.read_bytes().splitlines(keepends=True)):
        start, end = end, end + len(line)
        assert start // 4096 == (end - 1) // 4096
        assert json.loads(line)["step"] == number


@pytest.mark.parametrize("kept", [1, 2, 5, 50])
def test_cut_back_and_gone_on_with_the_file_is_the_same(tmp_path: Path, kept: int) -> None:
    def write(lines: JsonLines, numbers: range) -> None:
        for number in numbers:
            lines.append({"step": number, "filler": "x" * LENGTHS[number % len(LENGTHS)]})

    whole, cut = JsonLines(tmp_path / "whole.jsonl"), JsonLines(tmp_path / "cut.jsonl")
    write(whole, range(60))
    write(cut, range(kept))
    position = cut.position()
    write(cut, range(kept, kept + 4))
    again = JsonLines(cut.path)
    again.truncate(position)
    write(again, range(kept, 60))
    assert again.path.read_bytes() == whole.path.read_bytes()


def test_each_line_is_readable_at_once(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    for step in range(3):
        lines.append({"step": step})
        assert read(lines.path) == [{"step": i} for i in range(step + 1)]
        assert lines.position() == lines.path.stat().st_size


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (np.float32("-inf"), None),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([1.0, np.nan]), [1.0, None]),
        (np.array(2.5), 2.5),
        ((1, (2.0, None)), [1, [2.0, None]]),
        ({"a": {3: float("nan")}}, {"a": {"3": None}}),
        (Colour.RED, "red"),
        (True, True),
        (0.1, 0.1),
    ],
)
def test_values_have_one_json_form(tmp_path, value, expected):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.append({"value": value})
    assert read(lines.path) == [{"value": expected}]


@pytest.mark.parametrize(
    "text", ["a\u2028b\u2029c\x85d", "\ud800 lone", "é ≠ 漢 😀", "\n\r\x0b\x0c\x1c\x1e\x00\x7f", '"\\']
)
def test_any_text_is_one_line_and_comes_back(tmp_path, text):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.append({"text": text})
    lines.append({"text": "next"})
    assert read(lines.path) == [{"text": text}, {"text": "next"}]


def test_readable_text_stays_readable(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.append({"text": "é ≠ 漢"})
    assert "é ≠ 漢" in lines.path.read_text(encoding="utf-8")


def test_a_value_without_json_form_writes_nothing(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    with pytest.raises(TypeError):
        lines.append({"value": object()})
    assert lines.position() == 0


def test_truncate_goes_back_and_append_goes_on_from_there(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.append({"step": 1})
    position = lines.position()
    lines.append({"step": 2})
    lines.truncate(position)
    lines.append({"step": 3})
    assert read(lines.path) == [{"step": 1}, {"step": 3}]


def test_truncating_to_more_than_there_is_is_an_error(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    with pytest.raises(CheckpointError, match=r"a\.jsonl has 0 bytes, .* had 10"):
        lines.truncate(10)


def test_close_can_be_called_twice(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.close()
    lines.close()


def started_run(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.write_recipe("model: tiny-base\n")
    folder.metrics.append({"step": 1})
    folder.ledger.append({"group_id": "p#0"})
    return folder


def test_a_run_folder_has_its_files_and_its_recipe(tmp_path):
    started_run(tmp_path / "runs" / "a")
    assert (tmp_path / "runs/a/recipe.yaml").read_text() == "model: tiny-base\n"
    assert sorted(path.name for path in (tmp_path / "runs/a").iterdir()) == [
        "chain.jsonl",
        "evaluations.jsonl",
        "ledger.jsonl",
        "metrics.jsonl",
        "recipe.yaml",
        "transcripts.jsonl",
    ]


def test_a_run_is_never_overwritten(tmp_path):
    started_run(tmp_path / "a").close()
    with pytest.raises(UserError, match=r"/a' already holds a run: .*--resume.*another output_dir"):
        RunFolder(tmp_path / "a")
    assert read(tmp_path / "a" / "metrics.jsonl") == [{"step": 1}]


@pytest.mark.parametrize("resume", [False, True])
def test_foreign_files_are_left_alone(tmp_path, resume):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"files that no run wrote \('sub/thesis\.txt'\)"):
        RunFolder(tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_a_run_that_recorded_nothing_can_be_started_again(tmp_path):
    RunFolder(tmp_path).write_recipe("model: no-such-model\n")
    (tmp_path / "checkpoints").mkdir()
    RunFolder(tmp_path).write_recipe("model: tiny-base\n")
    assert (tmp_path / "recipe.yaml").read_text() == "model: tiny-base\n"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_resuming_where_no_run_is_starts_one(tmp_path, make):
    make(tmp_path / "a")
    folder = RunFolder(tmp_path / "a", resume=True)
    assert set(folder.positions().values()) == {0}


def test_a_folder_in_which_nothing_was_recorded_goes_again_and_any_other_stays(tmp_path):
    unused = RunFolder(tmp_path / "unused")
    unused.write_recipe("model: tiny-base\n")
    unused.remove_if_unused()
    assert not (tmp_path / "unused").exists()
    used = RunFolder(tmp_path / "used")
    used.metrics.append({"step": 0})
    used.remove_if_unused()
    assert (tmp_path / "used" / "metrics.jsonl").stat().st_size > 0


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        RunFolder(tmp_path / "a")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        RunFolder(tmp_path / "a" / "b")


def test_resuming_cuts_every_file_back_to_the_checkpoint(tmp_path):
    folder = started_run(tmp_path)
    positions = json.loads(json.dumps(folder.positions()))  # as a checkpoint stores them
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for file in (folder.metrics, folder.transcripts, folder.ledger, folder.evaluations):
        file.append({"step": 2})
    folder.close()
    with (tmp_path / "metrics.jsonl").open("a") as torn:
        torn.write('{"step": 3, "rew')  # killed while writing
    RunFolder(tmp_path, resume=True).truncate(positions)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_resuming_without_a_checkpoint_empties_the_files(tmp_path):
    started_run(tmp_path).close()
    folder = RunFolder(tmp_path, resume=True)
    folder.truncate({})
    assert set(folder.positions().values()) == {0}


def test_a_file_that_lost_lines_stops_resuming_before_any_is_cut(tmp_path):
    folder = started_run(tmp_path)
    positions = folder.positions()
    folder.metrics.append({"step": 2})
    (tmp_path / "ledger.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"ledger\.jsonl has 0 bytes"):
        folder.truncate(positions)
    assert len(read(tmp_path / "metrics.jsonl")) == 2


def test_a_full_disk_leaves_whole_lines_and_says_which_file(small_disk):
    folder = started_run(small_disk / "run")
    with pytest.raises(RunError, match=r"transcripts\.jsonl: No space left on device.*--resume"):
        fill(folder.transcripts)
    kept = read(folder.transcripts.path)
    assert kept
    assert kept == [{"index": i, "text": "x" * 5000} for i in range(len(kept))]
    with pytest.raises(RunError, match=r"recipe\.yaml: No space left"):
        folder.write_recipe("model: other\n" * 10_000)
    assert (small_disk / "run/recipe.yaml").read_text() == "model: tiny-base\n"
    assert not (small_disk / "run/.recipe.yaml.tmp").exists()
    folder.close()


def fill(lines: JsonLines) -> None:
    for index in range(1000):
        lines.append({"index": index, "text": "x" * 5000})


def test_a_limit_on_file_size_leaves_whole_lines(tmp_path):
    script = """
        import resource, sys
        from pathlib import Path
        from grpo.errors import RunError
        from grpo.run_folder import JsonLines
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        lines = JsonLines(Path(sys.argv[1]))
        try:
            for _ in range(100):
                lines.append({"text": "x" * 70})
        except RunError as error:
            print(error)
    """
    path = tmp_path / "a.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path], capture_output=True, text=True, check=True
    )
    assert f"cannot append to {path}: File too large" in done.stdout
    assert read(path) == [{"text": "x" * 70}] * (1000 // path.read_text().index("\n"))
