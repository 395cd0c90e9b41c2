"""The registry of metric names, and its table."""

import subprocess
import sys
from pathlib import Path

import pytest

from grpo.errors import GrpoError
from grpo.metrics import METRICS, SECTIONS, Metrics, UnknownMetricError, check_name, is_timing, metrics_document


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
    measured |= {metric.name for metric in METRICS if metric.name.startswith(("verifier/", "engine/"))}  # by the pace
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


def test_importing_metrics_imports_no_torch():
    code = "import sys, grpo.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_written_table_is_that_of_the_registry():
    written = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert written == metrics_document(), "run `make docs`"


def test_the_table_has_every_entry_once_under_a_title():
    rows = [line for line in metrics_document().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [metric.name for metric in METRICS]
    assert all(row.replace("\\|", "").count("|") == 4 for row in rows)
    assert [line[3:] for line in metrics_document().splitlines() if line.startswith("## ")] == list(SECTIONS)
