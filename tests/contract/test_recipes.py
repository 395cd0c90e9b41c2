"""Every shipped recipe loads, is small, says what it is, and can be checked without a heavy import."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grpo.recipe import SHIPPED, load_recipe, parse_recipe, to_yaml
from grpo.recipe.yaml_text import parse_yaml

RECIPES = sorted(SHIPPED.glob("*.yaml"))
MAX_KEYS = 45
HEAVY = ("torch", "vllm", "transformers", "datasets", "pyarrow")


def leaves(node: object) -> Iterator[object]:
    if isinstance(node, dict):
        for value in node.values():
            yield from leaves(value)
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value)
    else:
        yield node


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe_file(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path


def test_the_promised_recipes_are_shipped() -> None:
    assert {path.stem for path in RECIPES} >= {"quickstart", "smollm2_arithmetic", "smollm2_gsm8k", "r1_zero"}


def test_it_loads_and_reads_back(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert parse_recipe(to_yaml(recipe)) == recipe


def test_it_has_at_most_45_keys(recipe_file: Path) -> None:
    assert 0 < len(list(leaves(parse_yaml(recipe_file.read_text(), recipe_file.name)))) <= MAX_KEYS


def test_it_opens_with_what_it_reproduces_its_hardware_and_what_to_expect(recipe_file: Path) -> None:
    lines = recipe_file.read_text().splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["# Reproduces", "# Hardware", "# Expect"]
    assert not lines[3].startswith("#")


def test_its_run_folder_bears_its_name(recipe_file: Path) -> None:
    assert load_recipe(recipe_file).output_dir == f"runs/{recipe_file.stem}"


def test_check_reports_all_of_it_and_imports_nothing_heavy(recipe_file: Path) -> None:
    code = (
        "import json, sys\n"
        "from grpo.cli import app\n"
        f"app(['check', {str(recipe_file)!r}], standalone_mode=False)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *report, imported = done.stdout.splitlines()
    assert json.loads(imported) == []
    sections = [line.removeprefix("# ") for line in report if line.startswith("# ")]
    assert sections[:5] == ["recipe", "batch", "objective", "evaluation", "memory"]
    assert any(line.strip().startswith("at the fullest moment") for line in report)


def test_r1_zero_has_the_papers_hyperparameters() -> None:
    recipe = load_recipe(SHIPPED / "r1_zero.yaml")
    assert (recipe.learner.learning_rate, recipe.algorithm.beta) == (3e-6, 0.001)
    assert (recipe.rollout.problems_per_step, recipe.rollout.num_generations) == (32, 16)
    assert (recipe.rollout.temperature, recipe.algorithm.ref_model_sync_steps, recipe.max_steps) == (1.0, 400, 10400)
    assert [(reward.name, reward.weight) for reward in recipe.rewards] == [("math_answer", 1.0), ("format", 1.0)]
    assert (recipe.evaluation.temperature, recipe.evaluation.top_p, recipe.evaluation.num_samples) == (0.6, 0.95, 64)
