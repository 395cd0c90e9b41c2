"""The registry of metric names, and the sinks."""

import json
import subprocess
import sys
import textwrap

import pytest

from grpo.errors import GrpoError, MissingPackageError
from grpo.metrics import METRICS, JsonlSink, Metrics, UnknownMetricError, WandbSink, check_name, is_timing
from grpo.run_folder import RunFolder


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("reward", "reward"),
        ("rewards/math_answer/mean", "rewards/{name}/mean"),
        ("verdicts/harness_error", "verdicts/{status}"),
        ("val-core/openai/gsm8k/acc/mean@16", "val-core/{source}/acc/mean@{n}"),
        ("val-core/chained_arithmetic/acc/maj@16", "val-core/{source}/acc/maj@{n}"),
        ("sampling/sampling_logp_difference/p99", "sampling/sampling_logp_difference/p99"),
        ("val-aux/openai/gsm8k/mean_length", "val-aux/{source}/mean_length"),
        ("time/learn_s", "time/learn_s"),
    ],
)
def test_a_name_has_one_entry(name, entry):
    assert check_name(name).name == entry


@pytest.mark.parametrize(
    "name",
    [
        "",
        "rewards",
        "Reward",
        "reward ",
        "rewards//mean",
        "rewards/a/b/mean",
        "verdicts/maybe",
        "val-core/gsm8k/acc/mean@",
        "val-core/gsm8k/acc/mean@0",
        "val-core//acc/mean@4",
        "time/other_s",
        "xgrad_norm",
    ],
)
def test_no_other_name_passes(name):
    with pytest.raises(UnknownMetricError):
        check_name(name)


def test_an_unknown_name_is_told_with_its_nearest():
    with pytest.raises(UnknownMetricError, match=r"^metric 'grad_nrom' is not registered; the nearest is 'grad_norm'"):
        check_name("grad_nrom")
    assert issubclass(UnknownMetricError, GrpoError)
    assert issubclass(UnknownMetricError, KeyError)


def test_every_entry_is_explained_once_and_by_a_sentence():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.unit
        assert metric.meaning.endswith(".")
        assert len(metric.meaning.split()) >= 3, metric


def test_no_name_fits_two_entries():
    example = {"{name}": "format", "{source}": "openai/gsm8k", "{n}": "16", "{status}": "timeout"}
    for metric in METRICS:
        name = metric.name
        for placeholder, value in example.items():
            name = name.replace(placeholder, value)
        assert check_name(name) is metric


def test_timings_are_exactly_what_is_measured_in_time_rate_or_memory():
    measured = {metric.name for metric in METRICS if metric.unit in ("seconds", "tokens/s", "GiB")}
    measured |= {metric.name for metric in METRICS if metric.name.startswith("verifier/")}  # by the pace
    assert {metric.name for metric in METRICS if is_timing(metric.name)} == measured
    assert not is_timing("num_tokens")
    assert is_timing("step_time")


class Recorder:
    def __init__(self, *, fails: bool = False) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.closed, self.fails = False, fails

    def log(self, step, values):
        self.seen.append((step, dict(values)))

    def close(self):
        self.closed = True
        if self.fails:
            raise OSError("the network went away")


def test_each_sink_sees_each_value():
    sinks = Recorder(), Recorder()
    Metrics(sinks).log(3, {"reward": 0.5, "kl": 0.0})
    assert [sink.seen for sink in sinks] == [[(3, {"reward": 0.5, "kl": 0.0})]] * 2


def test_one_unknown_name_and_no_sink_sees_anything():
    sink = Recorder()
    with pytest.raises(UnknownMetricError, match="nonsense"):
        Metrics([sink]).log(1, {"reward": 0.5, "nonsense": 1.0})
    assert sink.seen == []


def test_closing_goes_on_past_a_sink_that_fails():
    sinks = Recorder(), Recorder(fails=True), Recorder()
    with pytest.raises(OSError, match="network"):
        Metrics(sinks).close()
    assert all(sink.closed for sink in sinks)


def test_jsonl_has_the_step_first_and_null_for_nan(tmp_path):
    folder = RunFolder(tmp_path)
    metrics = Metrics([JsonlSink(folder.metrics)])
    metrics.log(2, {"reward": 0.25, "grad_norm": float("nan")})
    metrics.close()
    line = folder.metrics.path.read_text()
    assert line == '{"step":2,"reward":0.25,"grad_norm":null}\n'
    assert json.loads(line)["grad_norm"] is None


def test_missing_wandb_is_told_with_its_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # the import then fails as for a package that is not there
    with pytest.raises(MissingPackageError, match=r"log\.wandb' = 'offline'.*pip install wandb"):
        WandbSink(tmp_path, project="grpo", mode="offline")


def test_importing_metrics_imports_no_wandb():
    code = "import sys, grpo.metrics; sys.exit('wandb' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_wandb_offline_writes_into_the_run_folder_under_one_id(tmp_path):
    pytest.importorskip("wandb", reason="wandb is an optional package")
    folder = tmp_path / "quickstart"
    folder.mkdir()
    script = """
        import sys
        from pathlib import Path
        from grpo.metrics import WandbSink
        sink = WandbSink(Path(sys.argv[1]), project="grpo", mode="offline", config={"seed": 0})
        sink.log(int(sys.argv[2]), {"reward": 0.5})
        sink.close()
    """
    for step in ("1", "2"):  # a run and its resumption; own processes, as wandb keeps threads and a server
        command = [sys.executable, "-c", textwrap.dedent(script), folder, step]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    run_id = (folder / "wandb_id").read_text().strip()
    files = [path.name for path in (folder / "wandb").rglob("*.wandb")]
    assert files
    assert set(files) == {f"run-{run_id}.wandb"}
