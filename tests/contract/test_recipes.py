"""Every shipped recipe loads, is small, says what it is, and can be checked without a heavy import."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grpo.plan import plan_of
from grpo.recipe import SHIPPED, load_recipe, parse_recipe, to_yaml
from grpo.recipe.shipped_document import recipes_document
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
    assert {path.stem for path in RECIPES} >= {
        "quickstart",
        "smollm2_arithmetic",
        "smollm2_gsm8k",
        "tinyzero_countdown_tiny",
        "tinyzero_countdown",
        "r1_zero_1gpu",
        "r1_zero",
        "dapo",
        "dr_grpo",
        "open_r1_math",
    }


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


def test_a_recipe_for_gpus_fits_on_those_that_its_header_plans_for(recipe_file: Path) -> None:
    if not load_recipe(recipe_file).num_gpus:
        pytest.skip("for a CPU")
    hardware = recipe_file.read_text().splitlines()[1]
    command = re.search(rf"`grpo plan recipes/{recipe_file.name} --gpus (\S+)`", hardware)
    assert command is not None, hardware
    assert plan_of(load_recipe(recipe_file), command[1]).fits


def test_the_preset_recipes_keep_their_papers_figures() -> None:
    dapo, dr_grpo = load_recipe(SHIPPED / "dapo.yaml"), load_recipe(SHIPPED / "dr_grpo.yaml")
    assert (dapo.rollout.problems_per_step, dapo.rollout.num_generations, dapo.answers_per_step // 16) == (512, 16, 512)
    assert (dapo.algorithm.epsilon, dapo.algorithm.epsilon_high, dapo.algorithm.num_minibatches) == (0.2, 0.28, 16)
    assert dapo.rewards[1].args == {"max_tokens": 20480, "soft_tokens": 4096}
    assert dapo.rollout.max_completion_length == 20480
    assert (dr_grpo.algorithm.loss_type, dr_grpo.algorithm.scale_rewards, dr_grpo.algorithm.beta) == (
        "dr_grpo",
        "none",
        0,
    )
    assert (dr_grpo.rollout.problems_per_step, dr_grpo.rollout.num_generations) == (128, 8)
    tinyzero = load_recipe(SHIPPED / "tinyzero_countdown.yaml")
    assert (tinyzero.rollout.problems_per_step, tinyzero.learner.learning_rate, tinyzero.algorithm.beta) == (
        256,
        1e-6,
        0.001,
    )
    assert (tinyzero.rollout.max_prompt_length, tinyzero.rollout.max_completion_length) == (256, 1024)


def test_the_pattern_of_open_r1_math_finds_the_box_of_a_solution() -> None:
    pattern = load_recipe(SHIPPED / "open_r1_math.yaml").data.train.reference_pattern
    assert pattern is not None
    found = re.search(pattern, r"so $x=2$. The answer is $\boxed{\frac{\sqrt{3}}{2}}$.")
    assert found is not None
    assert found[1] == r"\frac{\sqrt{3}}{2}"


def test_r1_zero_has_the_papers_hyperparameters() -> None:
    recipe = load_recipe(SHIPPED / "r1_zero.yaml")
    assert (recipe.learner.learning_rate, recipe.algorithm.beta) == (3e-6, 0.001)
    assert (recipe.rollout.problems_per_step, recipe.rollout.num_generations) == (32, 16)
    assert (recipe.rollout.temperature, recipe.algorithm.ref_model_sync_steps, recipe.max_steps) == (1.0, 400, 10400)
    assert [(reward.name, reward.weight) for reward in recipe.rewards] == [("math_answer", 1.0), ("format", 1.0)]
    assert (recipe.evaluation.temperature, recipe.evaluation.top_p, recipe.evaluation.num_samples) == (0.6, 0.95, 64)


def test_the_document_of_recipes_is_what_their_heads_say() -> None:
    committed = (SHIPPED.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert committed == recipes_document(), "run `make docs`"
