"""A finished run: its files against its hash chain, and its steps once more, with the real vLLM."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grpo.chain import difference, read_chain
from grpo.errors import CheckpointError, ReplayError, UserError
from grpo.launch import train
from grpo.recipe import load_recipe
from grpo.replay import read_recorded, replay
from grpo.run_folder import to_line

pytest.importorskip("vllm", reason="needs vLLM (pip install 'grpo[cpu]')")

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
STEPS = 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps, one of them stale by one, with an evaluation amid and checkpoints of steps 4 and 6."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    overrides = [
        *("rollout.problems_per_step=4", "rollout.num_generations=4", "rollout.max_staleness=1"),
        *("evaluation.num_samples=2", "evaluation.every=3", "data.num_held_out=8"),
        *("checkpoint.every=2", "checkpoint.keep=2", f"max_steps={STEPS}", f"output_dir={folder}"),
    ]
    train(load_recipe(QUICKSTART, overrides), resume=False)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(finished, tmp_path / "run")


def test_steps_run_again_are_the_steps_recorded(run: Path) -> None:
    """From the model and from a checkpoint amid, and nothing of the run is written."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said: list[str] = []
    replay(run, read_recorded(run), [2, 5, 6], said.append)
    assert [line.split(":")[0] for line in said] == ["step 2", "step 5", "step 6"]
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def change_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["transcripts", "ledger"])
def test_one_changed_byte_names_its_step_and_field(run: Path, name: str) -> None:
    start = json.loads((run / "chain.jsonl").read_text().splitlines()[2])["positions"][name]  # of step 4
    change_a_byte(run / f"{name}.jsonl", start + 20)
    with pytest.raises(ReplayError, match=f"step [45], field '{name}': .*{name}.jsonl does not hold"):
        read_chain(run)


def rewrite(path: Path, line: int, change: Callable[[dict[str, Any]], None]) -> None:
    records = [json.loads(text) for text in path.read_text().splitlines()]
    change(records[line])
    path.write_bytes(b"".join(to_line(record) for record in records))


def test_a_better_reward_in_the_metrics_is_noticed(run: Path) -> None:
    training = [i for i, text in enumerate((run / "metrics.jsonl").read_text().splitlines()) if "step_time" in text]
    rewrite(run / "metrics.jsonl", training[1], lambda values: values.update(reward=1.0))
    with pytest.raises(ReplayError, match="step 2, field 'metrics'"):
        read_chain(run)


def test_a_changed_or_a_missing_record_breaks_the_chain(run: Path) -> None:
    rewrite(run / "chain.jsonl", 3, lambda record: record.update(loss=0.5))
    with pytest.raises(ReplayError, match="step 4, field 'hash': the chain itself is altered"):
        read_chain(run)
    lines = (run / "chain.jsonl").read_bytes().splitlines(keepends=True)
    (run / "chain.jsonl").write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(ReplayError, match="step 4, field"):
        read_chain(run)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("chain", lambda lines: lines[:-2], "chain.jsonl ends at step 4, and metrics.jsonl goes on to step 6"),
        ("metrics", lambda lines: [*lines, lines[-2]], "metrics.jsonl, line .*: step 6 is there twice"),
        ("metrics", lambda lines: [*lines, b'{"step": 5\n'], "metrics.jsonl, line .*: not what a step logged"),
        (
            "chain",
            lambda lines: [b'{"step":1,"positions":{"ledger":"x"}}\n', *lines[1:]],
            "line 1: no record of a step",
        ),
    ],
)
def test_lines_cut_doubled_or_broken_are_named(
    run: Path, file: str, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    path = run / f"{file}.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ReplayError, match=said):
        read_chain(run)


def test_a_file_that_is_gone_is_named(run: Path) -> None:
    (run / "ledger.jsonl").unlink()
    with pytest.raises(ReplayError, match="ledger.jsonl cannot be read: No such file"):
        read_chain(run)


@pytest.mark.parametrize("lost", ["damaged", "gone"])
def test_a_run_whose_checkpoints_are_lost_is_not_emptied(run: Path, lost: str) -> None:
    """It would begin anew, over its own records."""
    for checkpoint in (run / "checkpoints").glob("step-*"):
        if lost == "gone":
            shutil.rmtree(checkpoint)
        else:
            change_a_byte(checkpoint / "model.safetensors", 100)
    recipe = load_recipe(run / "recipe.yaml", [f"output_dir={run}"])
    before = {path: path.read_bytes() for path in run.glob("*.jsonl")}
    with pytest.raises(CheckpointError, match="beginning anew would remove the run's records. Put a checkpoint back"):
        train(recipe, resume=True)
    assert before == {path: path.read_bytes() for path in run.glob("*.jsonl")}


def test_a_chain_forged_throughout_is_told_by_the_step_that_it_does_not_replay(run: Path) -> None:
    """Whoever recomputes every hash still has to have trained."""
    records = [json.loads(text) for text in (run / "chain.jsonl").read_text().splitlines()]
    records[4]["grad_norm"] = 0.125
    previous = ""
    for record in records:
        record["previous"] = previous
        del record["hash"]
        previous = record["hash"] = hashlib.sha256(to_line(record)).hexdigest()
    (run / "chain.jsonl").write_bytes(b"".join(to_line(record) for record in records))
    recorded = read_chain(run)
    assert difference(recorded[5], recorded[5]) is None
    with pytest.raises(ReplayError, match="step 5, field 'grad_norm': the run recorded 0.125, and run again"):
        replay(run, read_recorded(run), [5], lambda _: None)


def test_what_cannot_be_replayed_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"step 9 is not in .*it finished steps 1 to {STEPS}"):
        replay(run, read_recorded(run), [9], lambda _: None)
    with pytest.raises(UserError, match="is no run folder"):
        replay(tmp_path, read_recorded(tmp_path), [1], lambda _: None)
    (run / "chain.jsonl").unlink()
    with pytest.raises(ReplayError, match="has no chain.jsonl"):
        replay(run, read_recorded(run), [1], lambda _: None)
