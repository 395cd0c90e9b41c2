"""Formulas as docstrings have them: in `docs/maths.md`, and in what `grpo check` prints of a recipe."""

import re
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
        (["mask_truncated_completions=true"], "no loss tokens"),
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


def test_what_a_recipe_changes_of_its_preset_is_said_with_what_the_preset_has():
    said = "preset gspo, but algorithm.loss_type=dapo (not grpo), algorithm.epsilon=0.2 (not 0.0003), "
    assert said + "algorithm.epsilon_high=0.28 (not 0.0004)" in lines_of("algorithm.preset=gspo")
    assert "so r is 1" not in lines_of("algorithm.old=behavior")


def test_a_preset_that_is_unchanged_is_named_alone():
    assert lines_of("algorithm=gspo").startswith("preset gspo\nminimize")
    assert "preset" not in lines_of()


def test_what_a_recipe_changes_of_its_preset_outside_the_section_is_said():
    assert lines_of("algorithm=dapo").startswith("preset dapo, but rollout.max_refill_groups=4 (not 64)\n")
    assert lines_of("algorithm=dapo", "rollout.max_refill_groups=64").startswith("preset dapo\n")


def test_the_reference_is_said_wherever_there_is_one():
    assert (
        "reference: replaced by the policy every 400 steps; ref_model_sync_steps = 400, ref_model_mixup_alpha = 1"
        in lines_of("algorithm=r1_zero")
    )
    mixed = lines_of("algorithm=r1_zero", "algorithm.ref_model_mixup_alpha=0.25", "algorithm.ref_model_sync_steps=1")
    assert "replaced by 0.25 x the policy + 0.75 x itself every 1 step; " in mixed
    assert "reference: the model that the run began with, throughout" in lines_of("algorithm=tinyzero")
    assert "reference" not in lines_of("algorithm=gspo")


@pytest.mark.parametrize("policy_loss", POLICY_LOSSES)
def test_one_letter_stands_for_one_thing(policy_loss):
    text = lines_of(
        *(f"algorithm.{key}" for key in (f"policy_loss={policy_loss}", "beta=0.01", "off_policy_mask_threshold=0.5")),
    )
    defined = re.findall(r"(?:^|[ ,])([A-Za-z])(?:_i)?(?= =|:|, advantage|, policy term|, with)", text, re.MULTILINE)
    ours = [letter for letter in defined if letter not in "M"]  # its label, then its own formula
    assert len(ours) == len(set(ours)) + 1, defined  # b is both: the baseline's name, then its formula
    assert {"w", "P", "A", "b"} <= set(defined)
    assert not re.search(r"-M\b", text)


def test_reinforce_has_no_ratio_to_explain():
    assert lines_of("algorithm=rloo").endswith("\n1 update a step")
    corrected = ["algorithm.kl_in=loss", "algorithm.kl_estimator=k3", "algorithm.kl_importance_correction=true"]
    assert "r = policy/old" in lines_of("algorithm=rloo", *corrected)


def test_sources_are_whole():
    assert "(Williams 1992; with truncated weights, arXiv 2505.24298, eq. 5)" in lines_of("algorithm=rloo")


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_every_kl_that_is_accepted_stands_in_the_table_of_gradients(estimator):
    keys = [f"algorithm.kl_estimator={estimator}", "algorithm.beta=0.01", "algorithm.kl_importance_correction=true"]
    (gradient,) = re.findall("on average its gradient is (.*)", lines_of(*keys))
    rows = [line for line in maths_document().replace("\\|", "|").splitlines() if "kl_importance_correction" in line]
    assert any(estimator in row.split(" | ")[1] and gradient in row for row in rows)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_what_a_recipe_leaves_open_and_no_more(name):
    plain = load_recipe(QUICKSTART, [f"algorithm={name}"]).algorithm
    assert plain.preset == name
    for key, value in PRESETS[name].items():
        assert getattr(plain, key) == value
    changed = load_recipe(QUICKSTART, [f"algorithm={name}", "algorithm.entropy_coef=0.125"]).algorithm
    assert changed.entropy_coef == 0.125
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
