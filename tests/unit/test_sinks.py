"""Trackers, with their real packages and no network: what they hold after a run, and after a run that was resumed."""

import json
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from grpo.errors import MissingPackageError, RunError
from grpo.metrics import Metrics
from grpo.run_folder import RunFolder
from grpo.sinks import Expendable, JsonlSink, TensorboardSink, trackers
from tests.factories import make_recipe


def logging_to(name: str, folder: Path, lines: str, **environment: str) -> None:
    """Run a script with ``sink`` made for one tracker, in a process of its own: trackers keep threads and servers."""
    start = f"""
        import sys
        from pathlib import Path
        from grpo.sinks import trackers
        from tests.factories import make_recipe
        log = {{"report_to": [{name!r}], "wandb_mode": "offline", "project": "tests"}}
        (sink,) = trackers(make_recipe(log=log), Path(sys.argv[1]), next_step=0, report=sys.exit)
    """
    script = textwrap.dedent(start) + textwrap.dedent(lines)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


FIRST = """
    sink.log(0, {"val-core/a/acc/mean@4": 0.25})
    for step in (1, 2, 3):
        sink.log(step, {"reward": step / 8, "grad_norm": float("nan") if step == 2 else 1.0})
    sink.close()
"""
RESUMED = """
    for step in (2, 3, 4):
        sink.log(step, {"reward": step / 8})
        if step == 3:
            sink.log(step, {"val-core/a/acc/mean@4": 0.5})
    sink.close()
"""


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag, what TensorBoard itself reads."""
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is an optional package"
    )
    read = accumulators.EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_reads_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is an optional package")
    sink = TensorboardSink(tmp_path, next_step=0)
    sink.log(0, {"val-core/a/acc/mean@4": 0.25})
    sink.log(1, {"reward": 0.5, "time/learn_s": 1.5})
    sink.log(2, {"reward": 0.75})
    sink.close()
    assert scalars(tmp_path) == {
        "val-core/a/acc/mean@4": [(0, 0.25)],
        "reward": [(1, 0.5), (2, 0.75)],
        "time/learn_s": [(1, 1.5)],
    }


def test_a_resumed_run_has_no_step_twice_in_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is an optional package")
    first = TensorboardSink(tmp_path, next_step=0)
    for step in range(1, 8):
        first.log(step, {"reward": float(step)})
    first.close()
    resumed = TensorboardSink(tmp_path, next_step=6)  # of a checkpoint at step 5
    for step in (6, 7, 8):
        resumed.log(step, {"reward": step + 100.0})
    resumed.close()
    assert scalars(tmp_path)["reward"] == [(s, float(s)) for s in range(1, 6)] + [(s, s + 100.0) for s in (6, 7, 8)]


def test_trackio_holds_each_step_once_after_a_resumption(tmp_path):
    pytest.importorskip("trackio", reason="trackio is an optional package")
    folder, environment = tmp_path / "mine", {"TRACKIO_DIR": str(tmp_path / "trackio")}
    folder.mkdir()
    logging_to("trackio", folder, FIRST, **environment)
    logging_to("trackio", folder, RESUMED, **environment)
    code = """
        import json, sys
        from trackio.sqlite_storage import SQLiteStorage
        (run,) = SQLiteStorage.get_runs("tests")
        rows = [{k: v for k, v in row.items() if k != "timestamp"} for row in SQLiteStorage.get_logs("tests", run)]
        print(json.dumps([run, rows]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    read = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    run, rows = json.loads(read.stdout.splitlines()[-1])
    assert run == f"mine-{json.loads((folder / 'trackio.json').read_text())['id']}"
    assert [(row["step"], row.get("reward")) for row in rows] == [
        (0, None),
        *((step, step / 8) for step in (1, 2, 3)),
        (3, None),
        (4, 0.5),
    ]
    assert rows[4]["val-core/a/acc/mean@4"] == 0.5  # of step 3, which the first run had not come to


def test_wandb_offline_writes_into_the_run_folder_under_one_id(tmp_path):
    pytest.importorskip("wandb", reason="wandb is an optional package")
    folder = tmp_path / "quickstart"
    folder.mkdir()
    logging_to("wandb", folder, FIRST)
    logging_to("wandb", folder, RESUMED)
    run_id = json.loads((folder / "wandb.json").read_text())["id"]
    files = sorted((folder / "wandb").rglob("*.wandb"))
    assert [file.name for file in files] == [f"run-{run_id}.wandb"] * 2
    assert sorted(step for file in files for step in wandb_steps(file)) == [0, 1, 2, 3, 3, 4]


def wandb_steps(file: Path) -> list[int]:
    """The step of each row of history in one of wandb's files."""
    from wandb.proto import wandb_internal_pb2

    steps = []
    for data in leveldb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            steps.append(record.history.step.num)
    return steps


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's form: blocks of 32 KiB, each piece behind a checksum, its length and kind."""
    at, record = 7, b""  # behind wandb's own header
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard"])
def test_a_missing_package_is_told_with_its_fix(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # the import then fails as for a package that is not there
    with pytest.raises(MissingPackageError, match=rf"log\.report_to' names {name}.*pip install 'grpo\[{name}\]'"):
        trackers(make_recipe(log={"report_to": [name]}), tmp_path, next_step=0, report=print)
    assert list(tmp_path.iterdir()) == []


def test_importing_sinks_imports_no_tracker():
    code = "import sys, grpo.sinks; sys.exit(bool({'wandb', 'trackio', 'tensorboard', 'torch'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_tracker_is_made_unasked(tmp_path):
    assert trackers(make_recipe(), tmp_path, next_step=0, report=print) == []


def test_jsonl_has_the_step_first_and_null_for_nan(tmp_path):
    folder = RunFolder(tmp_path)
    metrics = Metrics([JsonlSink(folder.metrics)])
    metrics.log(2, {"reward": 0.25, "grad_norm": float("nan")})
    metrics.close()
    line = folder.metrics.path.read_text()
    assert line == '{"step":2,"reward":0.25,"grad_norm":null}\n'
    assert json.loads(line)["grad_norm"] is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its writing thread's end
def test_a_full_disk_takes_tensorboard_out_of_the_run_and_no_more(tmp_path, small_disk):
    pytest.importorskip("tensorboard", reason="tensorboard is an optional package")
    said: list[str] = []
    lines = RunFolder(tmp_path.parent / f"{tmp_path.name}-whole")
    tensorboard = Expendable(TensorboardSink(small_disk, next_step=0), "tensorboard", said.append)
    metrics = Metrics([JsonlSink(lines.metrics), tensorboard])
    (small_disk / "filler").write_bytes(b"0" * (1 << 20 - 1))
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "more").write_bytes(b"0" * (1 << 20))
    for step in range(1, 30):
        metrics.log(step, {f"rewards/{name}/mean": 0.5 for name in range(200)})
    metrics.close()
    assert len(lines.metrics.path.read_text().splitlines()) == 29
    assert len(said) == 1
    assert said[0].startswith("tensorboard is left out from step ")
    assert "No space left on device" in said[0]


class Unplugged:
    """A tracker whose network has gone."""

    def __init__(self) -> None:
        self.num_calls = 0

    def log(self, step, values):
        self.num_calls += 1
        raise ConnectionError("no route to host")

    def close(self):
        self.num_calls += 1
        raise ConnectionError("no route to host")


def test_a_tracker_that_fails_is_said_once_and_asked_no_more():
    said: list[str] = []
    unplugged = Unplugged()
    sink = Expendable(unplugged, "wandb", said.append)
    for step in (4, 5):
        sink.log(step, {"reward": 0.5})
    sink.close()
    assert unplugged.num_calls == 1
    assert said == [
        "wandb is left out from step 4 on (ConnectionError: no route to host); the run goes on, and metrics.jsonl in "
        "its folder has every number"
    ]


def test_a_tracker_that_cannot_be_closed_does_not_end_the_run():
    said: list[str] = []
    Expendable(Unplugged(), "trackio", said.append).close()
    assert said[0].startswith("trackio is left out at its end (ConnectionError")


def test_a_file_of_what_was_sent_that_is_damaged_is_named(tmp_path):
    pytest.importorskip("wandb", reason="wandb is an optional package")
    (tmp_path / "wandb.json").write_text('{"id": ')
    with pytest.raises(RunError, match=r"cannot read .*wandb\.json"):
        trackers(make_recipe(log={"report_to": ["wandb"]}), tmp_path, next_step=0, report=print)
