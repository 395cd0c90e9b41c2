"""The strict loader: each mistake gives one message with key or file, value, what is allowed and the fix."""

from pathlib import Path

import pytest

from grpo.errors import RecipeError, UserError
from grpo.recipe import (
    SHIPPED,
    Recipe,
    load_recipe,
    nearest_key,
    parse_recipe,
    recipe_keys,
    to_yaml,
    with_overrides,
)
from grpo.recipe.examples import EXAMPLES, what_to_write
from grpo.recipe.presets import PRESETS
from tests.unit.minimal_recipe import MINIMAL, refused


def test_defaults_fill_what_the_recipe_leaves_out() -> None:
    recipe = parse_recipe(MINIMAL)
    assert recipe.learner.learning_rate == 3e-4
    assert recipe.algorithm.loss_type == "dapo"
    assert recipe.answers_per_step == 32
    assert recipe.engine_dtype == "float32"


def test_resolved_yaml_reads_back_as_the_same_recipe() -> None:
    recipe = parse_recipe(MINIMAL, ["rollout.stop=['off', '1e-4', 'yes']", "learner.learning_rate=3e-6"])
    text = to_yaml(recipe)
    assert parse_recipe(text) == recipe
    assert "learning_rate: 3.0e-06" in text


def test_resolved_yaml_quotes_texts_that_another_reader_would_take_for_booleans() -> None:
    assert "path: 'off'" in to_yaml(parse_recipe(MINIMAL, ["data.train.path=off"]))


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("learner.learning_rate=1e-4", "learner.learning_rate", 1e-4),
        ("learner.learning_rate=2", "learner.learning_rate", 2.0),
        ("max_steps=010", "max_steps", 10),
        ("log.project=off", "log.project", "off"),
        ("output_dir=no", "output_dir", "no"),
        ('rollout.stop=["</answer>"]', "rollout.stop", ["</answer>"]),
        ("rollout.compile=true", "rollout.compile", True),
        ("algorithm.epsilon_high=null", "algorithm.epsilon_high", None),
        ("data.train.args.min_numbers=4", "data.train.args", {"min_numbers": 4}),
        ("data.held_out.path=problems.jsonl", "data.held_out.path", "problems.jsonl"),
        ("output_dir=runs/a=b", "output_dir", "runs/a=b"),
    ],
)
def test_override_sets_one_key(override: str, path: str, expected: object) -> None:
    value: object = parse_recipe(MINIMAL, [override])
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


def test_a_least_learning_rate_needs_a_schedule_that_falls() -> None:
    error = refused("learner.min_lr_rate=0.1")
    assert error.key == "learner.min_lr_rate"
    assert "learner.lr_scheduler_type=cosine" in error.fix
    recipe = parse_recipe(MINIMAL, ["learner.min_lr_rate=0.1", "learner.lr_scheduler_type=cosine"])
    assert recipe.learner.min_lr_rate == 0.1


@pytest.mark.parametrize("value", ["off", "offline"])
def test_a_key_that_was_renamed_says_what_to_write_now(value: str) -> None:
    error = refused(f"log.wandb={value}")
    assert str(error) == (
        f"recipe key 'log.wandb' = '{value}': there is no such key any more. It is log.report_to=[wandb] now, with "
        "log.wandb_mode=offline or online; where it was off, leave it out."
    )


@pytest.mark.parametrize("names", ["wandb", "[mlflow]"])
def test_trackers_are_a_list_of_those_there_are(names: str) -> None:
    assert refused(f"log.report_to={names}").key.startswith("log.report_to")
    assert parse_recipe(MINIMAL, ["log.report_to=[tensorboard]"]).log.report_to == ["tensorboard"]


def test_override_reaches_into_a_list_by_index() -> None:
    recipe = parse_recipe(MINIMAL, ["rewards.0.weight=0.5", "rewards.0.args.extract=boxed"])
    assert recipe.rewards[0].weight == 0.5
    assert recipe.rewards[0].args == {"extract": "boxed"}


def test_the_last_override_of_a_key_holds() -> None:
    assert parse_recipe(MINIMAL, ["seed=1", "seed=2"]).seed == 2


def test_a_key_beside_a_preset_wins_wherever_it_stands() -> None:
    beside = ["algorithm.epsilon_high=0.3", "algorithm=gspo"]
    recipe = parse_recipe(MINIMAL, beside)
    assert (recipe.algorithm.epsilon_high, recipe.algorithm.policy_loss) == (0.3, "gspo")
    assert parse_recipe(MINIMAL, beside[::-1]) == recipe


def test_a_key_of_a_list_wins_over_the_list_wherever_it_stands() -> None:
    recipe = parse_recipe(MINIMAL, ["rewards.0.weight=0.5", "rewards=[{name: number}]"])
    assert recipe.rewards[0].weight == 0.5


def test_a_preset_replaces_the_section_or_lies_under_it() -> None:
    text = MINIMAL + "algorithm: {loss_type: dr_grpo, entropy_coef: 0.1}\n"
    replaced = parse_recipe(text, ["algorithm=gspo"]).algorithm
    assert (replaced.loss_type, replaced.entropy_coef) == ("grpo", 0.0)
    under = parse_recipe(text, ["algorithm.preset=gspo"]).algorithm
    assert (under.loss_type, under.entropy_coef, under.policy_loss) == ("dr_grpo", 0.1, "gspo")


def test_what_the_command_line_takes_the_effect_from_goes_back_to_its_default() -> None:
    text = MINIMAL + "algorithm: {epsilon: 0.3, epsilon_high: 0.4}\n"
    recipe = parse_recipe(text, ["algorithm.policy_loss=sapo"])
    assert (recipe.algorithm.epsilon, recipe.algorithm.epsilon_high) == (0.2, None)
    assert parse_recipe(to_yaml(recipe)) == recipe
    assert refused("algorithm.policy_loss=sapo", "algorithm.epsilon=0.3", text=text).key == "algorithm.epsilon"
    in_file = text.replace("{epsilon", "{policy_loss: sapo, epsilon")
    assert refused(text=in_file).key == refused("seed=1", text=in_file).key == "algorithm.epsilon"


@pytest.mark.parametrize("form", ["algorithm", "algorithm.preset"])
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_goes_with_every_shipped_recipe(path: Path, name: str, form: str) -> None:
    recipe = load_recipe(path, [f"{form}={name}"])
    assert parse_recipe(to_yaml(recipe)) == recipe


def test_overrides_of_a_recipe_are_checked_like_those_of_a_file() -> None:
    recipe = parse_recipe(MINIMAL)
    assert with_overrides(recipe, ["seed=7"]) == parse_recipe(MINIMAL, ["seed=7"])
    with pytest.raises(RecipeError, match="num_generations"):
        with_overrides(recipe, ["rollout.num_generations=1"])


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("learning_rat=1", "learner.learning_rate"),
        ("rollout.num_generation=8", "rollout.num_generations"),
        ("rollout.beta=0.1", "algorithm.beta"),
        ("rewards.0.wieght=1", "rewards.N.weight"),
        ("data.train.pth=x", "data.train.path"),
        ("model.path=x", "data.train.path"),
        ("temperature=1.0", "rollout.temperature"),
        ("rolout={}", "rollout"),
        ("algorithm.clip_eps=0.1", "algorithm.epsilon"),
        ("algorithm.clip_ratio_high=0.3", "algorithm.epsilon_high"),
        ("algorithm.kl_loss_coef=0.1", "algorithm.beta"),
        ("learner.lr=1e-6", "learner.learning_rate"),
        ("algorithm.ref_update_steps=4", "algorithm.ref_model_sync_steps"),
        ("rollout.n=8", "rollout.num_generations"),
        ("num_samples=8", "rollout.num_generations"),
    ],
)
def test_unknown_key_names_the_nearest_in_the_whole_schema(override: str, nearest: str) -> None:
    error = refused(override)
    assert error.key == override.split("=")[0]
    assert "there is no such key" in str(error)
    if override != "model.path=x":  # below a text, where no key can be
        assert error.fix == f"The nearest is '{nearest}'."


@pytest.mark.parametrize("override", ["algorithm.colour=1", "rollout.x=1", "algorithm.ppo_mini_batch_size=2"])
def test_unknown_key_that_is_like_no_other_is_told_no_other(override: str) -> None:
    assert "The nearest is" not in str(refused(override))
    assert "`grpo schema` have every key" in refused(override).fix


def test_unknown_key_in_the_file_is_refused_too() -> None:
    error = refused(text=MINIMAL.replace("learning_rate", "lerning_rate"))
    assert (error.key, error.value) == ("learner.lerning_rate", 3e-4)
    assert "'learner.learning_rate'" in error.fix


def test_nearest_key_of_every_key_is_itself() -> None:
    assert [nearest_key(key) for key in recipe_keys()] == list(recipe_keys())


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("max_steps=ten", "must be a whole number"),
        ("max_steps=1.5", "must be a whole number"),
        ("max_steps='10'", "must be a whole number. Write it without quotes"),
        ("max_steps=0", "must be at least 1"),
        ("learner.learning_rate=fast", "must be a number"),
        ("learner.learning_rate=.nan", "must be a number"),
        ("learner.learning_rate=0", "must be above 0"),
        ("learner.adam_beta2=1.0", "must be below 1"),
        ("rollout.top_p=1.5", "must be at most 1"),
        ("rollout.compile=yes", "must be true or false"),
        ("rollout.stop=x", "must be a list"),
        ("rollout=x", "must be a section"),
        ("template=plain", "must be one of qa, question_answer, r1_zero, r1, "),
        ("model=7", "must be a text"),
        ("rewards=[]", "at least 1"),
    ],
)
def test_wrong_value_says_what_is_allowed(override: str, allowed: str) -> None:
    error = refused(override)
    assert error.key == override.split("=")[0]
    assert allowed in str(error)


def test_wrong_value_among_free_arguments_names_its_key() -> None:
    assert refused("rewards.0.args.extract=[1]").key == "rewards.0.args.extract"


def test_wrong_value_recalls_the_default() -> None:
    assert "The default is 1.0." in str(refused("rollout.temperature=hot"))


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("rewards=foo", "Write a list of sections, as in rewards=[{name: number}]."),
        ("algorithm.off_policy_mask_threshold=0", "Leave it out, or use 0.5, say."),
        ("max_steps=ten", "Use 100, say."),
        ("rollout=x", "Set its keys, as in rollout.engine=vllm."),
        ("scoring.audit=x", "Set its keys, as in scoring.audit.name=math_answer."),
    ],
)
def test_wrong_value_shows_one_that_is_right(override: str, fix: str) -> None:
    assert refused(override).fix == fix


def test_every_key_has_a_value_to_show() -> None:
    for key in recipe_keys():
        place = tuple(0 if part == "N" else part for part in key.split("."))
        assert "mend" not in what_to_write(place).lower(), key


@pytest.mark.parametrize("key", [key for key in EXAMPLES if not key.endswith(".fn")])
def test_the_values_that_are_shown_are_accepted(key: str) -> None:
    base = "data: {train: {path: a}, held_out: {path: b}}\nscoring: {audit: {name: number}}\n"
    text = base + MINIMAL.replace("data:\n  train: {path: arithmetic}\n", "").replace("template: qa", "template: chat")
    assert isinstance(parse_recipe(text, [f"{key.replace('.N.', '.0.')}={EXAMPLES[key]}"]), Recipe)


def test_missing_key_is_named() -> None:
    error = refused(text=MINIMAL.replace("max_steps: 2\n", ""))
    assert error.key == "max_steps"
    assert "is required" in str(error)


@pytest.mark.parametrize("override", ["max_steps", "seed 3"])
def test_override_without_a_value_shows_the_form(override: str) -> None:
    with pytest.raises(UserError, match="Write key.path=value, as in learner.learning_rate=1e-4"):
        refused(override)


def test_override_that_is_no_yaml_names_its_key() -> None:
    assert refused("rollout.stop=[").key == "rollout.stop"


@pytest.mark.parametrize("override", ["rewards.1.weight=1", "rewards.x.weight=1", "rewards.-1.weight=1"])
def test_list_index_out_of_range_says_how_many_there_are(override: str) -> None:
    assert "list of 1" in str(refused(override))


def test_repeated_key_names_both_lines() -> None:
    error = refused(text=MINIMAL + "seed: 1\nseed: 2\n")
    assert error.key == "seed"
    assert "lines 17 and 18" in str(error)


def test_merge_keys_are_no_inheritance() -> None:
    assert refused(text=MINIMAL + "<<: {seed: 1}\n").key == "<<"


def test_yaml_error_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(MINIMAL + "learner: [\n")
    with pytest.raises(UserError, match=r"broken\.yaml, line 18"):
        load_recipe(file)


def test_missing_file_lists_the_shipped_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe at .*nowhere\.yaml.*recipes/quickstart\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"- a\n", "holds a list"), (b"\xff\xfe", "UTF-8")])
def test_file_that_holds_no_recipe_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_recipe(file)


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        load_recipe(tmp_path)
