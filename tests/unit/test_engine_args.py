"""``engine.args``: what the recipe refuses without vLLM, and what vLLM itself is asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from grpo.errors import RecipeError
from grpo.recipe import parse_recipe, to_yaml
from grpo.recipe.engine_args import OWNED, REFUSED
from tests.unit.test_recipe import MINIMAL, refused

ROOT = Path(__file__).parents[2]


def test_what_vllm_is_given_keeps_its_types() -> None:
    given = "engine.args={block_size: 32, download_dir: null, limit_mm_per_prompt: {image: 0}, ignore_patterns: [a, b]}"
    recipe = parse_recipe(MINIMAL, [given, "engine.args.swap=0.5"])
    assert recipe.engine.args == {
        "block_size": 32,
        "download_dir": None,
        "limit_mm_per_prompt": {"image": 0},
        "ignore_patterns": ["a", "b"],
        "swap": 0.5,
    }
    assert parse_recipe(to_yaml(recipe)) == recipe


@pytest.mark.parametrize(("name", "key"), sorted(OWNED.items()))
def test_what_a_recipe_key_sets_is_refused_with_that_key(name: str, key: str) -> None:
    error = refused(f"engine.args.{name}=1")
    assert (error.key, error.fix) == (f"engine.args.{name}", f"Set {key}.")


@pytest.mark.parametrize("name", [*sorted(REFUSED), "data_parallel_backend"])
def test_what_would_break_the_proof_is_refused_with_the_reason(name: str) -> None:
    assert refused(f"engine.args.{name}=x").allowed.startswith("may not be set: ")


def test_there_must_be_a_vllm_engine_of_the_runs_own() -> None:
    assert "rollout.engine is transformers" in str(refused("engine.args.block_size=16", "rollout.engine=transformers"))
    assert "started by you" in str(refused("engine.args.block_size=16", "rollout.servers=['http://127.0.0.1:8000']"))


def test_values_that_are_no_json_are_refused() -> None:
    error = refused("engine.args={block_size: !!binary aGk=}")
    assert error.key.startswith("engine.args")
    assert "must be a text, a number" in error.allowed


def test_every_name_in_the_lists_is_one_of_vllms() -> None:
    """And vLLM's own words for a name that it lacks, or a value that it refuses: no engine is started for either."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    code = f"""
import dataclasses
import grpo.engine.vllm_engine.in_process
from vllm.engine.arg_utils import EngineArgs
from grpo.engine.vllm_engine.own_arguments import engine_config
from grpo.errors import RecipeError
listed = {sorted((*OWNED, *REFUSED))!r}
missing = set(listed) - {{field.name for field in dataclasses.fields(EngineArgs)}}
assert not missing, missing
for own in ({{"blocksize": 16}}, {{"block_size": "large"}}):
    try:
        engine_config({{"model": "grpo/tiny_base/checkpoint", "skip_tokenizer_init": True}}, own)
    except RecipeError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    unknown, refused_value = [line for line in done.stdout.splitlines() if line.startswith("recipe key")]
    assert unknown.startswith("recipe key 'engine.args.blocksize' = 16: vLLM ")
    assert unknown.endswith("has no such argument. The nearest is 'block_size'.")
    assert refused_value.startswith("recipe key 'engine.args' = {block_size: 'large'}: vLLM refused them: ")


def test_an_error_of_the_arguments_is_for_the_user() -> None:
    assert RecipeError("engine.args", {}, "", "").exit_code == 2
