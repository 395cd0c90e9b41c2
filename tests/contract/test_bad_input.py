"""What a user gets wrong, through the real launch: one message that names key or file, value and fix; nothing left."""

import sys
from pathlib import Path

import pytest

from grpo.errors import CheckpointError, UserError
from grpo.launch import train
from grpo.recipe import SHIPPED, load_recipe

QUICKSTART = SHIPPED / "quickstart.yaml"
GOOD = '{"question": "1+1", "answer": "2"}\n' * 3


def attempt(folder: Path, *overrides: str) -> str:
    """The message of the UserError that this run ends in."""
    with pytest.raises(UserError) as caught:
        train(load_recipe(QUICKSTART, [f"output_dir={folder / 'run'}", *overrides]), resume=False)
    assert caught.value.exit_code == 2
    assert not (folder / "run").exists(), "a start that failed left a run folder"
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rollout.num_generation=8"], ["rollout.num_generation", "rollout.num_generations"]),
        (["max_steps=many"], ["max_steps", "'many'", "whole number"]),
        (["rollout.num_generations=1"], ["rollout.num_generations", "1", "at least 2"]),
        (["algorithm.num_minibatches=3"], ["algorithm.num_minibatches", "3", "128"]),
        (["algorithm.clip_eps=0.1"], ["algorithm.clip_eps", "algorithm.epsilon"]),
        (["algorithm=DAPO"], ["DAPO", "'dapo'"]),
        (["algorithm.kl_in=reward"], ["algorithm.kl_in", "reward", "algorithm.beta"]),
        (["rollout.top_p=0.9"], ["rollout.top_p", "0.9", "importance_sampling_correction"]),
        (["model=./no-such-folder"], ["./no-such-folder", "folder"]),
        (["model=recipes"], ["recipes"]),
        (["num_gpus=1"], ["num_gpus"]),
        (["rollout.max_prompt_length=8"], ["rollout.max_prompt_length", "8"]),
        (["rollout.max_completion_length=600"], ["rollout.max_completion_length", "600", "512"]),
        (["data.train.path=missing.jsonl", "data.train.args={}"], ["missing.jsonl"]),
        (["data.train.args.max_number=4"], ["max_number", "max_numbers"]),
        (["rewards.0.args.extract=tags"], ["tags", "answer_tags"]),
    ],
)
def test_a_mistake_in_a_recipe(tmp_path: Path, overrides: list[str], said: list[str]) -> None:
    message = attempt(tmp_path, *overrides)
    assert [part for part in said if part not in message] == [], message


@pytest.mark.parametrize(
    ("content", "overrides", "said"),
    [
        ("", [], ["problems.jsonl"]),
        ('{"question": "1+1"\n', [], ["problems.jsonl", "line 1"]),
        (GOOD, ["data.train.question=problem"], ["problem", "question", "answer"]),
        ('{"question": "1+1", "answer": "two"}\n', ["data.on_bad_reference=fail"], ["two"]),
        ('{"question": "1+1", "answer": "two"}\n' * 3, [], ["two"]),
        (GOOD, ["data.num_held_out=128"], ["data.num_held_out", "128"]),
    ],
)
def test_a_mistake_in_the_data(tmp_path: Path, content: str, overrides: list[str], said: list[str]) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text(content, encoding="utf-8")
    message = attempt(tmp_path, f"data.train.path={file}", "data.train.args={}", *overrides)
    assert [part for part in said if part not in message] == [], message


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
