"""The real thing: the embedded base model, the real vLLM on the CPU, whole runs."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import equal

from grpo.errors import RecipeError
from grpo.launch import evaluate_model, train
from grpo.metrics import is_timing
from grpo.recipe import Recipe, load_recipe

pytest.importorskip("vllm", reason="needs vLLM (pip install 'grpo[cpu]')")

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart.yaml"
SMALL = (
    "rollout.problems_per_step=4",
    "rollout.num_generations=4",
    "evaluation.num_samples=2",
    "evaluation.every=0",
    "data.num_held_out=16",
)


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(QUICKSTART, [*SMALL, f"output_dir={folder}", *overrides])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def untimed_metrics(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if not is_timing(name)} for line in lines(folder / "metrics.jsonl")
    ]


def assert_same_run(one: Path, other: Path) -> None:
    """Metrics (timings apart), transcripts, ledger, evaluations and final weights, bit for bit."""
    assert untimed_metrics(one) == untimed_metrics(other)
    for name in ("transcripts.jsonl", "ledger.jsonl", "evaluations.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    weights, again = (load_file(newest(folder) / "model.safetensors") for folder in (one, other))
    assert weights.keys() == again.keys()
    assert all(equal(weights[name], again[name]) for name in weights)


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder / "metrics.jsonl") if "step_time" in line]


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("step-*"))


def test_reward_rises_and_answers_grow_in_a_short_run(tmp_path: Path) -> None:
    run = load_recipe(
        QUICKSTART,
        [
            "max_steps=25",
            "evaluation.num_samples=4",
            "evaluation.every=0",
            "rollout.max_refill_groups=0",
            f"output_dir={tmp_path / 'run'}",
        ],
    )
    after = train(run, resume=False)
    before = lines(tmp_path / "run" / "evaluations.jsonl")[0]["values"]
    assert 0.2 <= before["pass@1"] <= 0.45
    assert after.values["pass@1"] > before["pass@1"] + 0.15
    assert after.values["mean_length"] > before["mean_length"] * 1.2
    assert len(steps(tmp_path / "run")) == 25
    assert all(step["publish/probe_difference"] < 1e-4 for step in steps(tmp_path / "run"))


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_run(tmp_path: Path, staleness: int) -> None:
    settings = (f"rollout.max_staleness={staleness}", "rollout.max_refill_groups=4", "checkpoint.every=2")
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    train(recipe(whole, *settings, "max_steps=4"), resume=False)
    train(recipe(whole.with_name("halved"), *settings, "max_steps=4", "checkpoint.keep=9"), resume=False)
    # As if it had been killed right after its checkpoint at step 2: later lines and checkpoints are not there yet.
    newest(halved).rename(tmp_path / "gone")
    train(recipe(halved, *settings, "max_steps=4", "checkpoint.keep=9"), resume=True)
    assert_same_run(whole, halved)
    if staleness:
        assert [step["off_policy/max"] for step in steps(whole)] == [0.0, 1.0, 1.0, 1.0]


def test_the_same_seed_twice_is_the_same_run_and_another_seed_is_another(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        train(recipe(tmp_path / name, "max_steps=2", f"seed={seed}"), resume=False)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    one, three = (tmp_path / name / "transcripts.jsonl" for name in ("one", "three"))
    assert one.read_bytes() != three.read_bytes()


def test_the_transformers_engine_trains_with_no_mismatch_at_all(tmp_path: Path) -> None:
    train(recipe(tmp_path / "run", "max_steps=2", "rollout.engine=transformers"), resume=False)
    assert len(steps(tmp_path / "run")) == 2
    for step in steps(tmp_path / "run"):
        assert step["publish/probe_difference"] == 0.0
        assert step["sampling/sampling_logp_difference/max"] < 1e-4


def test_every_group_has_one_end_and_no_held_out_problem_was_trained_on(tmp_path: Path) -> None:
    train(recipe(tmp_path / "run", "max_steps=3", "rollout.max_refill_groups=4"), resume=False)
    ledger = lines(tmp_path / "run" / "ledger.jsonl")
    ids = [entry["group_id"] for entry in ledger]
    assert len(ids) == len(set(ids))
    assert sorted(entry["ordinal"] for entry in ledger) == list(range(len(ledger)))
    assert {entry["end"] for entry in ledger} <= {"trained", "rejected"}
    from grpo.arithmetic import is_held_out

    assert not any(is_held_out(line["question"]) for line in lines(tmp_path / "run" / "transcripts.jsonl"))


def test_a_checkpoint_is_a_model_that_evaluates_as_the_run_said(tmp_path: Path) -> None:
    settings = recipe(tmp_path / "run", "max_steps=2")
    after = train(settings, resume=False)
    again = evaluate_model(str(tmp_path / "run"), settings)
    assert again.values == after.values


def test_a_run_killed_between_checkpoints_is_the_whole_run_with_all_that_a_run_can_carry(tmp_path: Path) -> None:
    """A reference that moves, two updates a step, refilling, groups that wait: killed after step 3, back to step 2."""
    keys = (
        *("algorithm.beta=0.05", "algorithm.ref_model_sync_steps=2", "algorithm.ref_model_mixup_alpha=0.5"),
        *("algorithm.num_minibatches=2", "rollout.max_refill_groups=2", "rollout.max_staleness=1"),
        *("rollout.problems_per_step=3", "checkpoint.every=2", "max_steps=6"),
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(recipe(whole, *keys), resume=False)
    plan = json.dumps({"point": "after chain", "occurrence": 3, "kind": "kill"})
    command = [sys.executable, "-m", "tests.faults", plan, "train", str(QUICKSTART), *SMALL, *keys]
    run = subprocess.run([*command, f"output_dir={killed}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert len(lines(killed / "chain.jsonl")) == 3
    assert [path.name for path in sorted((killed / "checkpoints").glob("step-*"))][-1:] == ["step-00000002"]
    train(recipe(killed, *keys), resume=True)
    assert_same_run(whole, killed)
    assert (whole / "chain.jsonl").read_bytes() == (killed / "chain.jsonl").read_bytes()
    assert max(step["kl"] for step in steps(whole)) > 0
    assert steps(whole)[-1]["num_updates"] == 12
    assert steps(whole)[-1]["off_policy/max"] == 1.0


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "grpo.cli", "train", str(QUICKSTART), *SMALL, f"output_dir={folder}"]
    with subprocess.Popen(
        [*command, "max_steps=500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("step 1/500"))
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in message
    assert "Traceback" not in message
    done = int(newest(folder).name.removeprefix("step-"))
    assert 1 <= done < 500
    resumed = recipe(folder, f"max_steps={done + 1}")
    train(resumed, resume=True)
    assert newest(folder).name == f"step-{done + 1:08d}"


def test_max_time_saves_in_time_and_ends_as_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "grpo.cli", "train", str(QUICKSTART), *SMALL, f"output_dir={folder}"]
    run = subprocess.run([*command, "max_steps=5000", "max_time=00:00:20"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 130, run.stderr
    assert "max_time 00:00:20 is near: saving and ending here" in run.stdout
    assert "this goes on from it: grpo train" in run.stderr
    assert 1 <= int(newest(folder).name.removeprefix("step-")) < 5000


def test_a_changed_recipe_is_named_and_goes_on_only_where_that_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(recipe(folder, "max_steps=1"), resume=False)
    changed = recipe(folder, "max_steps=2", "learner.learning_rate=1e-4", "learner.weight_decay=0.1")
    with pytest.raises(RecipeError, match="learning_rate") as caught:
        train(changed, resume=True)
    assert "weight_decay" in str(caught.value)
    train(changed, resume=True, allow_change=True)
    assert newest(folder).name == "step-00000002"


def test_groups_outside_the_pass_rates_are_rejected_for_that_reason(tmp_path: Path) -> None:
    bounds = ("rollout.min_pass_rate=0.3", "rollout.max_pass_rate=0.7", "log.transcripts_per_step=99")
    train(recipe(tmp_path / "run", "max_steps=3", "rollout.engine=transformers", *bounds), resume=False)
    rejected = [line for line in lines(tmp_path / "run" / "ledger.jsonl") if line["end"] == "rejected"]
    assert {line["reason"] for line in rejected} == {"zero_variance", "pass_rate"}
    rewards: dict[str, list[float]] = {}
    for line in lines(tmp_path / "run" / "transcripts.jsonl"):
        rewards.setdefault(line["group_id"], []).append(line["reward"])
    for line in lines(tmp_path / "run" / "ledger.jsonl"):
        inside = 0.3 <= sum(rewards[line["group_id"]]) / len(rewards[line["group_id"]]) <= 0.7
        assert inside == (line["end"] == "trained")


@pytest.mark.parametrize("preset", ["rloo", "reinforce_pp", "gspo"])
def test_presets_that_need_more_than_a_group_train_and_resume_to_the_bit(tmp_path: Path, preset: str) -> None:
    """KL in the reward and statistics of the step, with groups that wait for a step in a checkpoint.

    What is resumed here is the learner's, so the engine that starts fastest will do.
    """
    engine = ("rollout.engine=transformers", "rollout.max_staleness=1")
    keys = (f"algorithm={preset}", *engine, "checkpoint.every=2", "checkpoint.keep=9", "max_steps=4")
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    train(recipe(whole, *keys), resume=False)
    train(recipe(halved, *keys), resume=False)
    newest(halved).rename(tmp_path / "gone")
    train(recipe(halved, *keys), resume=True)
    assert_same_run(whole, halved)
    if preset == "reinforce_pp":  # against other problems' answers, a group that scores alike teaches
        assert all(step["groups/trained"] == 4 for step in steps(whole))
