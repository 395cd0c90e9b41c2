"""Formulas as docstrings have them: in `docs/maths.md`, and in what `grpo check` prints of a recipe."""

from pathlib import Path

import pytest

from grpo.advantages import BASELINES, SCALES
from grpo.objective.corrections import CORRECTIONS
from grpo.objective.formula import formula_of, maths_document, objective_lines
from grpo.objective.kl import KL_ESTIMATORS
from grpo.objective.policy_losses import POLICY_LOSSES
from grpo.packing import AGGREGATIONS
from grpo.recipe import load_recipe, parse_recipe
from grpo.recipe.presets import PRESETS

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart.yaml"
REGISTRIES = {
    "baseline": BASELINES,
    "scale_rewards": SCALES,
    "policy_loss": POLICY_LOSSES,
    "loss_type": AGGREGATIONS,
    "importance_sampling_mode": CORRECTIONS,
    "kl_estimator": KL_ESTIMATORS,
}


def lines_of(*overrides: str) -> str:
    return "\n".join(objective_lines(load_recipe(QUICKSTART, overrides)))


def test_the_document_is_what_the_docstrings_say():
    written = (ROOT / "docs" / "maths.md").read_text(encoding="utf-8")
    assert written == maths_document(), "run `make docs`"


@pytest.mark.parametrize("key", REGISTRIES)
def test_every_value_of_a_key_has_its_function_and_no_function_is_without_one(key):
    allowed = load_recipe(QUICKSTART).algorithm.__class__.model_json_schema()["properties"][key]["enum"]
    assert sorted(allowed) == sorted(REGISTRIES[key])


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, names in REGISTRIES.items() for name in names])
def test_the_objective_of_a_recipe_prints_the_formula_of_what_it_names(key, name):
    keys = ["algorithm.beta=0.01", "algorithm.kl_importance_correction=true"] if key == "kl_estimator" else []
    keys += ["algorithm.scale_rewards=none"] if name == "batch" and key == "baseline" else []
    found = formula_of(REGISTRIES[key][name])
    assert found.summary
    assert found.source
    assert found.formula.rpartition("= ")[2].split(",")[0] in lines_of(*keys, f"algorithm.{key}={name}")


def test_constants_stand_beside_the_formulas_that_they_are_in():
    text = lines_of("algorithm=gspo", "algorithm.importance_sampling_cap=3.5")
    assert "epsilon = 0.0003, epsilon_high = 0.0004" in text
    assert "importance_sampling_cap = 3.5" in text
    assert "dppo_threshold" not in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["beta=0.01"], "gradient of KL(reference || policy) of each token, the other direction"),
        (["beta=0.01", "kl_estimator=k2"], "the gradient of KL(policy || reference) of each token"),
        (["beta=0.01", "kl_estimator=k1", "kl_in=reward"], "the gradient of KL(policy || reference) of whole answers"),
        (["beta=0.01", "kl_in=reward"], "biased"),
        (["beta=0.01", "kl_in=reward"], "the sum of KL over the answer's loss tokens"),
        (["beta=0.01", "kl_importance_correction=true"], "0.01 r KL"),
        (["delta=4.0"], "at most delta = 4"),
        (["entropy_coef=0.01"], "- 0.01 entropy"),
        (["top_entropy_quantile=0.2"], "20% of an update's tokens"),
        (["off_policy_mask_threshold=0.5"], "off_policy_mask_threshold = 0.5"),
        (["pass_at_k=4"], "k = 4"),
        (["num_iterations=3"], "3 updates a step"),
        (["old=behavior"], "r = policy/behavior (the engine); 1 update a step"),
        (["multi_objective_aggregation=normalize_then_sum"], "weight_f"),
    ],
)
def test_each_part_that_is_switched_on_is_said(overrides, said):
    plain = lines_of()
    text = lines_of(*(f"algorithm.{override}" for override in overrides))
    assert said in text
    assert said not in plain


def test_what_a_recipe_changes_of_its_preset_is_said():
    assert "preset gspo, but loss_type=dapo, epsilon=0.2, epsilon_high=0.28" in lines_of("algorithm.preset=gspo")
    assert "preset" not in lines_of("algorithm=gspo")
    assert "so r is 1" not in lines_of("algorithm.old=behavior")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_what_a_recipe_leaves_open_and_no_more(name):
    plain = load_recipe(QUICKSTART, [f"algorithm={name}"]).algorithm
    assert plain.preset == name
    for key, value in PRESETS[name].items():
        assert getattr(plain, key) == value
    changed = load_recipe(QUICKSTART, [f"algorithm={name}", "algorithm.epsilon=0.125"]).algorithm
    assert changed.epsilon == 0.125
    assert changed.loss_type == plain.loss_type


def test_presets_are_different_objectives():
    texts = {name: lines_of(f"algorithm={name}") for name in PRESETS}
    assert len(set(texts.values())) == len(PRESETS)


def test_dapo_samples_dynamically_unless_the_recipe_says_how():
    text = QUICKSTART.read_text(encoding="utf-8")
    assert parse_recipe(text, ["algorithm=dapo"]).rollout.max_refill_groups == 4
    silent = text.replace("  max_refill_groups: 4\n", "")
    assert parse_recipe(silent, ["algorithm=dapo"]).rollout.max_refill_groups == 4 * 16
    assert parse_recipe(silent, ["algorithm=dr_grpo"]).rollout.max_refill_groups == 0
