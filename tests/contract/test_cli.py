"""The command line as a user meets it: exit codes, one clear message, no traceback unasked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from grpo.cli import INTERRUPTED, app, reported
from grpo.errors import EngineError, ModelError
from grpo.recipe import SHIPPED

SMOLLM2 = str(SHIPPED / "smollm2_arithmetic.yaml")


def grpo(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(SHIPPED.parent)!r}); from grpo.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", SMOLLM2, "rollout.num_generation=8"], "'rollout.num_generations'"),
        (["train", SMOLLM2, "rollout.num_generations=1"], "at least 2"),
        (["check", SMOLLM2, "max_steps=ten"], "'max_steps' = 'ten': must be a whole number"),
        (["eval", "some/model", "--recipe", SMOLLM2, "sed=1"], "'seed'"),
        (["eval", "some/model", "--recipe", "nowhere.yaml"], "no recipe at nowhere.yaml"),
    ],
)
def test_a_mistake_in_the_recipe_is_one_message_and_exit_code_2(args: list[str], said: str, tmp_path: Path) -> None:
    done = grpo(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=./nowhere", "./nowhere"),
        ("rewards.0.args.extract=tags", "answer_tags"),
        ("data.train.args.min_numbers=3", "one_digit"),
        ("rollout.max_completion_length=9000", "row_tokens"),
    ],
)
def test_check_refuses_what_could_not_run(override: str, said: str) -> None:
    done = grpo("check", SMOLLM2, override)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_check_refuses_samples_longer_than_the_models_window() -> None:
    done = grpo("check", SMOLLM2, "rollout.max_completion_length=9000", "learner.row_tokens=10000")
    assert done.returncode == 2
    assert "the window of HuggingFaceTB/SmolLM2-135M-Instruct, 8192 tokens" in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = grpo("check", SMOLLM2, "sead=1", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "RecipeError" in done.stderr


def test_check_says_the_batch_in_words() -> None:
    done = grpo("check", SMOLLM2, "rollout.max_refill_groups=4", "algorithm.num_minibatches=2", "max_steps=3")
    assert done.returncode == 0, done.stderr
    assert "each step: 8 problems x 8 answers = 64 answers, at most 1,024 tokens sampled (16 an answer)" in done.stdout
    assert "at most 4 groups that teach nothing replaced a step: up to 32 answers more" in done.stdout
    assert "updates: 2 a step, each on 32 answers" in done.stdout
    assert "whole run: 3 steps, 192 answers to 24 problems, 6 updates" in done.stdout
    assert "an answer is right where 'number', the first reward in the list, says correct" in done.stdout


def test_check_says_what_must_give() -> None:
    done = grpo("check", str(SHIPPED / "r1_zero.yaml"))
    assert "DOES NOT FIT in 80 GB per GPU" in done.stdout
    overrides = next(line for line in done.stdout.splitlines() if line.startswith("fits with ")).split()[2:-2]
    again = grpo("check", str(SHIPPED / "r1_zero.yaml"), *overrides)
    assert "fits in 80 GB per GPU" in again.stdout


def test_check_notes_an_engine_that_computes_otherwise() -> None:
    assert "# notes" not in grpo("check", SMOLLM2).stdout
    done = grpo("check", SMOLLM2, "rollout.engine_dtype=bfloat16", "algorithm.old=behavior")
    assert "the engine computes in bfloat16, the learner in float32" in done.stdout
    assert "nothing corrects for that difference" in done.stdout


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"]])
def test_help_is_there(args: list[str]) -> None:
    done = grpo(*args)
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("args", [["train"], ["eval", "x"], ["trian"], ["train", SMOLLM2, "--resumee"]])
def test_wrong_usage_is_exit_code_2(args: list[str]) -> None:
    done = grpo(*args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_every_command_shows_an_example_of_itself() -> None:
    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*path, name))
        if not getattr(command, "commands", {}):
            yield path, command

    for path, command in below(typer.main.get_command(app), ()):
        assert f"Example: grpo {' '.join(path)}" in command.help, f"grpo {' '.join(path)} --help has no example"


def test_version_and_exit_codes_are_told() -> None:
    assert grpo("--version").stdout.startswith("grpo ")
    assert "130 interrupted" in grpo("--help").stdout


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(tmp_path: Path) -> None:
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's background job ignores it
    (tmp_path / "typer.py").write_text(f"import os, signal\n{heard}\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(SHIPPED.parent)))}
    command = [sys.executable, "-m", "grpo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "interrupted before anything was done\n")


def complete(*words: str) -> list[str]:
    """What a shell is offered for the last of these words."""
    code = "import sys; sys.argv[0] = 'grpo'; from grpo.cli import main; main()"
    environment = os.environ | {
        "PYTHONPATH": str(SHIPPED.parent),
        "_GRPO_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=SHIPPED.parent, check=False)
    return done.stdout.split()


def test_a_shell_completes_recipes_and_keys() -> None:
    assert "recipes/quickstart.yaml" in complete("grpo", "train", "recipes/q")
    assert complete("grpo", "train", "recipes/quickstart.yaml", "learner.learning") == ["learner.learning_rate="]
    assert complete("grpo", "check", "recipes/quickstart.yaml", "rollout.num_g") == ["rollout.num_generations="]
    assert "compare" in complete("grpo", "runs", "c")


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["check", SMOLLM2], {"recipe", "batch", "objective", "evaluation", "memory"}),
        (["plan", str(SHIPPED / "quickstart.yaml"), "--gpus", "1xL4"], {"fits", "places", "shortage_bytes", "lines"}),
    ],
)
def test_what_is_data_is_json_for_programs(args: list[str], names: set[str]) -> None:
    done = grpo(*args, "--json")
    assert done.returncode == 0, done.stderr
    assert names <= json.loads(done.stdout).keys()


def test_a_slow_reward_is_waited_for_aloud(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "def f(completion, problem):\n"
        "    if completion == '42': time.sleep(2.5)\n"
        "    return float('42' in completion)\n"
    )
    (tmp_path / "data.jsonl").write_text('{"question": "6 * 7?", "answer": "42"}\n')
    done = grpo("reward", "test", "slow.py:f", "--data", "data.jsonl", cwd=tmp_path)
    said = (
        "waiting for the verdict of slow.py:f on 0: the reference: it is ended after 10 s of computing, or 60 s in all"
    )
    assert said in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ModelError("no such model"), 2, "error: no such model"),
        (EngineError("a request was lost"), 1, "error: a request was lost"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted. Go on with --resume"),
        (ZeroDivisionError("division by zero"), 1, "unexpected error: ZeroDivisionError: division by zero (--debug"),
    ],
)
def test_each_kind_of_end_has_its_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, reported(debug=False, interrupted="Go on with --resume"):
        raise error
    assert caught.value.exit_code == code
    message = capsys.readouterr().err
    assert message.startswith(said)
    assert message.count("\n") == 1


def test_a_bracketed_message_arrives_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reported(debug=False, interrupted=""):
        raise ModelError("[red]config.json[/red] of [bold]")
    assert "[red]config.json[/red] of [bold]" in capsys.readouterr().err


def test_doctor_says_of_each_thing_whether_it_is_there() -> None:
    done = grpo("doctor")
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in lines][:3] == ["python", "torch", "transformers"]
    assert {line.split()[0] for line in lines} <= {"ok", "FIX"}
    assert done.returncode == int(any(line.startswith("FIX") for line in lines))
    assert any(line.split()[1] == "sandbox" and "tier" in line for line in lines)


def test_a_sandbox_is_not_served_to_others_without_a_token() -> None:
    done = grpo("sandbox", "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "Give a token (the variable GRPO_SANDBOX_TOKEN), or bind 127.0.0.1" in done.stderr


def test_a_reward_can_be_tried_before_a_run_meets_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def brevity(completion, problem): return 1 / (1 + len(completion))\n"
        "def picky(completion, problem): return float(completion[0] == '<')\n"
    )
    (tmp_path / "data.jsonl").write_text('{"question": "6 * 7?", "answer": "42"}\n')
    good = grpo("reward", "test", "mine.py:brevity", "--data", "data.jsonl", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert "1 MB of opening braces" in good.stdout
    bad = grpo("reward", "test", "mine.py:picky", "--data", "data.jsonl", cwd=tmp_path)
    assert bad.returncode == 1
    assert "and 1 more have no score: mine.py:picky raised IndexError" in bad.stderr
    for args, said in (
        (["mine.py:nowhere"], "has no function 'nowhere'; it has brevity, picky"),
        (["numbr"], "did you mean 'number'?"),
        (["number", "extract"], "Write KEY=VALUE"),
        (["number", "--data", "none.jsonl"], "none.jsonl: cannot be read"),
    ):
        done = grpo("reward", "test", *args, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), args
        assert said in done.stderr


def test_import_prints_a_recipe_says_what_became_of_each_key_and_writes_over_nothing(tmp_path: Path) -> None:
    config, recipe = tmp_path / "trl.yaml", tmp_path / "mine.yaml"
    config.write_text("model_name_or_path: a/b\nuse_vllm: true\nmin_p: 0.1\nmade_up: 1\n", encoding="utf-8")
    done = grpo("import", "trl", str(config), "--output", str(recipe))
    assert (done.returncode, done.stdout) == (0, "")
    assert "min_p = 0.1\n       sampling has temperature, top_p and top_k" in done.stderr
    assert "not known (1):\n  made_up = 1" in done.stderr
    assert grpo("check", str(recipe)).returncode == 0
    again = grpo("import", "trl", str(config), "--output", str(recipe))
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert grpo("import", "trl", str(config), "--output", str(recipe), "--force").returncode == 0


def test_import_of_what_is_no_configuration_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    done = grpo("import", "verl", str(tmp_path / "nowhere.sh"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no configuration at")


def test_schema_is_json() -> None:
    done = grpo("schema")
    assert (done.returncode, json.loads(done.stdout)["title"]) == (0, "Recipe")
