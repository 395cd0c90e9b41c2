"""The strict loader: each mistake gives one message with key or file, value, what is allowed and the fix."""

import shlex
from pathlib import Path

import pytest

from grpo.check import report
from grpo.errors import RecipeError, UserError
from grpo.recipe import (
    SHIPPED,
    Recipe,
    check_resumable,
    load_recipe,
    nearest_key,
    parse_recipe,
    recipe_keys,
    to_yaml,
    with_overrides,
)
from grpo.recipe.examples import EXAMPLES, what_to_write
from grpo.recipe.presets import PRESETS

MINIMAL = """\
model: tiny-base
max_steps: 2
output_dir: runs/x
template: qa
data:
  train: {path: arithmetic}
rewards:
  - name: number
    args: {extract: answer_tags}
rollout:
  problems_per_step: 4
  num_generations: 8
  max_prompt_length: 64
  max_completion_length: 64
learner:
  learning_rate: 3e-4
"""


def refused(*overrides: str, text: str = MINIMAL) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides)
    return caught.value


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


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["rollout.num_generations=1"], "rollout.num_generations", "at least 2"),
        (["algorithm.num_minibatches=5"], "algorithm.num_minibatches", "must divide the 32 answers"),
        (["learner.row_tokens=127"], "learner.row_tokens", "= 128"),
        (["rollout.top_p=0.9"], "rollout.top_p", "importance_sampling_correction=false"),
        (["rollout.top_k=5"], "rollout.top_k", "importance_sampling_correction=false"),
        (
            ["rollout.top_p=0.9", "algorithm.importance_sampling_correction=false", "algorithm.old=behavior"],
            "rollout.top_p",
            "algorithm.old=recompute",
        ),
        (["rollout.engine=transformers", "rollout.engine_dtype=bfloat16"], "rollout.engine_dtype", "float32"),
        (["rollout.stop=['']"], "rollout.stop", "empty"),
        (["evaluation.temperature=0"], "evaluation.num_samples", "must be 1"),
        (["algorithm.ref_model_sync_steps=4"], "algorithm.ref_model_sync_steps", "algorithm.beta"),
        (["algorithm.beta=0.1", "algorithm.ref_model_mixup_alpha=0.5"], "algorithm.ref_model_mixup_alpha", "above 0"),
        (["algorithm.beta=0.1", "algorithm.kl_estimator=k1"], "algorithm.kl_estimator", "zero on average"),
        (
            ["algorithm.beta=0.1", "algorithm.kl_importance_correction=true", "algorithm.kl_in=reward"],
            "algorithm.kl_importance_correction",
            "no function of the policy",
        ),
        (["algorithm.pass_at_k=8"], "algorithm.pass_at_k", "must be below rollout.num_generations (8)"),
        (["rollout.min_pass_rate=0.9", "rollout.max_pass_rate=0.1"], "rollout.min_pass_rate", "no group to learn from"),
        (["rollout.min_pass_rate=0.51", "rollout.max_pass_rate=0.6"], "rollout.min_pass_rate", "(8) answers"),
        (["algorithm.baseline=batch"], "algorithm.scale_rewards", "their own spread of 0"),
        (
            ["algorithm=rloo", "algorithm.scale_rewards=mean"],
            "algorithm.scale_rewards",
            "never below 0",
        ),
        (
            [
                "algorithm.beta=0.1",
                "algorithm.ref_model_sync_steps=2",
                "algorithm.ref_model_mixup_alpha=0.5",
                "learner.dtype=bfloat16",
            ],
            "algorithm.ref_model_mixup_alpha",
            "rounded away",
        ),
        (
            ["algorithm=gspo", "algorithm.top_entropy_quantile=0.2"],
            "algorithm.top_entropy_quantile",
            "no token could be left out. Set algorithm.top_entropy_quantile=1.0, or algorithm.policy_loss=gspo_token.",
        ),
        (
            ["algorithm=gspo", "algorithm.importance_sampling_mode=token_mask"],
            "algorithm.importance_sampling_mode",
            "Set algorithm.importance_sampling_mode=sequence_mask, or algorithm.policy_loss=gspo_token",
        ),
        (["algorithm.importance_sampling_min=0.5"], "algorithm.importance_sampling_min", "a mode that masks"),
        (
            ["algorithm.old=behavior", "algorithm.importance_sampling_mode=token_mask"],
            "algorithm.importance_sampling_mode",
            "Set algorithm.old=recompute",
        ),
        (["algorithm.kl_importance_correction=true"], "algorithm.kl_importance_correction", "Set algorithm.beta=0.001"),
        (["algorithm.kl_in=reward"], "algorithm.kl_in", "no effect with algorithm.beta=0"),
        (["algorithm.kl_estimator=k1"], "algorithm.kl_estimator", "or algorithm.kl_estimator=k3, the default"),
        (
            ["algorithm.importance_sampling_correction=false", "algorithm.importance_sampling_cap=5"],
            "algorithm.importance_sampling_cap",
            "Set algorithm.importance_sampling_correction=true, or algorithm.importance_sampling_cap=2.0, the default.",
        ),
        (
            ["algorithm.importance_sampling_correction=false", "algorithm.importance_sampling_mode=token_mask"],
            "algorithm.importance_sampling_mode",
            "Set algorithm.importance_sampling_correction=true, or algorithm.importance_sampling_mode=token_truncate",
        ),
        (["algorithm.policy_loss=dppo", "algorithm.epsilon=0.3"], "algorithm.epsilon", "bounds no ratio"),
        (
            ["algorithm.policy_loss=sapo", "algorithm.epsilon_high=0.3"],
            "algorithm.epsilon_high",
            "algorithm.epsilon_high=null, the default",
        ),
        (["algorithm={policy_loss: reinforce, epsilon: 0.3}"], "algorithm.epsilon", "bounds no ratio"),
        (["algorithm.epsilon=2"], "algorithm.epsilon", "must be at most 1"),
        (["algorithm=cispo", "algorithm.epsilon=1.01"], "algorithm.epsilon", "must be at most 1"),
        (["algorithm=DAPO"], "algorithm.preset", "Did you mean 'dapo'?"),
        (["algorithm=grpo"], "algorithm.preset", "algorithm='{loss_type: grpo, beta: 0.04}'"),
        (["algorithm=sapo"], "algorithm.preset", "algorithm.policy_loss=sapo"),
        (["algorithm.preset=[dapo]"], "algorithm.preset", "must be one of"),
        *(
            (
                ["rollout.top_k=5", "algorithm.importance_sampling_correction=false", f"{moving}=4"],
                "rollout.top_k",
                f"does not go with {moving} = 4",
            )
            for moving in ("algorithm.num_minibatches", "algorithm.num_iterations", "rollout.max_staleness")
        ),
        (["algorithm.dppo_threshold=0.3"], "algorithm.dppo_threshold", "Set algorithm.policy_loss=dppo"),
        (
            [
                "algorithm.policy_loss=reinforce",
                "rollout.max_staleness=1",
                "algorithm.importance_sampling_correction=false",
            ],
            "algorithm.importance_sampling_correction",
            "max_staleness above 0",
        ),
        (
            ["algorithm.multi_objective_aggregation=normalize_then_sum", "algorithm.pass_at_k=2"],
            "algorithm.pass_at_k",
            "normalizes each reward",
        ),
        (["algorithm.delta=1.1"], "algorithm.delta", "must exceed the upper bound of the ratio"),
        (["algorithm.delta=4.0", "algorithm.policy_loss=sapo"], "algorithm.delta", "policy_loss=sapo"),
        (
            ["algorithm.importance_sampling_mode=token_mask", "algorithm.importance_sampling_min=3.0"],
            "algorithm.importance_sampling_min",
            "algorithm.importance_sampling_cap (2)",
        ),
        (
            ["parallel.context=2", "rollout.num_engines=1", "algorithm.policy_loss=gspo"],
            "algorithm.policy_loss",
            "parallel.context above 1",
        ),
        (
            ["algorithm=reinforce"],
            "algorithm.preset",
            "must be one of r1_zero, dapo",
        ),
        (
            [
                "algorithm.policy_loss=reinforce",
                "algorithm.num_iterations=2",
                "algorithm.importance_sampling_correction=false",
            ],
            "algorithm.importance_sampling_correction",
            "several updates a step",
        ),
        (
            [
                "rollout.top_p=0.9",
                "algorithm.importance_sampling_correction=false",
                "algorithm.off_policy_mask_threshold=0.5",
            ],
            "rollout.top_p",
            "off_policy_mask_threshold=null",
        ),
        (["rewards=[{name: number}, {name: format}, {name: number}]"], "rewards.0.name", "2 times"),
        (["rewards.0.weight=0"], "rewards.0.weight", "not be 0"),
        (["data.train.reference_pattern='####'"], "data.train.reference_pattern", "group"),
        (["data.train.reference_pattern='('"], "data.train.reference_pattern", "regular expression"),
        (["data.train.limit=128"], "data.train.limit", "held-out problems"),
    ],
)
def test_keys_that_contradict_each_other_are_refused_with_a_fix(overrides: list[str], key: str, said: str) -> None:
    error = refused(*overrides)
    assert error.key == key
    assert said in str(error)
    assert error.fix


@pytest.mark.parametrize(
    "overrides",
    [
        ["rollout.top_p=0.9", "algorithm.importance_sampling_correction=false"],
        ["learner.row_tokens=128"],
        ["rollout.max_staleness=1", "algorithm.num_minibatches=4"],
        ["rollout.max_staleness=4", "algorithm.num_iterations=2"],
        ["algorithm.beta=0.1", "algorithm.kl_estimator=k1", "algorithm.kl_in=reward"],
        ["algorithm.beta=0.1", "algorithm.kl_estimator=k1", "algorithm.kl_importance_correction=true"],
        ["parallel.context=2", "rollout.num_engines=1", "algorithm.policy_loss=gspo_token"],
        ["algorithm=reinforce_pp", "algorithm.beta=0.0"],
        ["rollout.engine=transformers", "rollout.max_staleness=1"],
        ["rollout.engine=transformers", "learner.dtype=bfloat16", "rollout.engine_dtype=bfloat16"],
        ["algorithm.beta=0.001", "algorithm.ref_model_sync_steps=4"],
        ["evaluation.temperature=0", "evaluation.num_samples=1"],
        ["data.train.limit=128", "data.held_out.path=other.jsonl"],
        ["rollout.engine_dtype=bfloat16"],
        ["algorithm=cispo", "algorithm.epsilon=1.0"],
        ["algorithm.policy_loss=gmpo", "algorithm.epsilon=2.0"],
        ["algorithm={loss_type: grpo, beta: 0.04}"],
        ["algorithm=gspo", "algorithm.policy_loss=dppo"],
        ["algorithm=rloo", "algorithm.beta=0.0"],
    ],
)
def test_neighbours_of_the_refused_are_accepted(overrides: list[str]) -> None:
    assert isinstance(parse_recipe(MINIMAL, overrides), Recipe)


def test_fix_of_a_batch_that_does_not_divide_is_itself_accepted() -> None:
    error = refused("algorithm.num_minibatches=7")
    suggested = error.fix.split()[1].rstrip(",")
    assert parse_recipe(MINIMAL, [f"algorithm.num_minibatches={suggested}"]).algorithm.num_minibatches == 8


def test_resuming_names_every_key_that_differs_and_how_to_go_back() -> None:
    before, now = parse_recipe(MINIMAL), parse_recipe(MINIMAL, ["algorithm=gspo", "rollout.stop=['</a b>']"])
    with pytest.raises(RecipeError) as caught:
        check_resumable(before, now)
    changed = ("epsilon", "epsilon_high", "loss_type", "policy_loss", "preset")
    names = [*(f"algorithm.{name}" for name in changed), "rollout.stop"]
    assert caught.value.key == names[0]
    assert [name for name in names if f"'{name}' = " not in str(caught.value)] == []
    assert "'algorithm.loss_type' = 'grpo': it has 'dapo'" in str(caught.value)
    again = shlex.split(caught.value.fix.removeprefix("Resume with ").partition(", or start")[0])
    assert [override.partition("=")[0] for override in again] == names
    assert check_resumable(before, with_overrides(now, again)) == []


def test_resuming_with_allowed_changes_says_each() -> None:
    before, now = parse_recipe(MINIMAL), parse_recipe(MINIMAL, ["algorithm.epsilon=0.3", "seed=2", "max_steps=9"])
    assert check_resumable(before, now, allow_change=True) == [
        "algorithm.epsilon = 0.3, where the run had 0.2",
        "seed = 2, where the run had 0",
    ]


def test_resuming_as_before_is_no_change() -> None:
    before = parse_recipe(MINIMAL)
    elsewhere = parse_recipe(MINIMAL, ["max_steps=9", "output_dir=runs/y", "checkpoint.every=1", "max_time=1:00:00"])
    assert check_resumable(before, elsewhere) == []
    assert check_resumable(before, elsewhere, allow_change=True) == []


def test_resuming_with_parts_that_the_run_has_not_points_to_its_own_recipe() -> None:
    before, now = parse_recipe(MINIMAL), parse_recipe(MINIMAL, ["data.held_out.path=arithmetic"])
    with pytest.raises(
        RecipeError, match=r"'data\.held_out\.path' = 'arithmetic'.* has None.*own recipe, runs/x/recipe"
    ):
        check_resumable(before, now)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rollout.max_refill_groups=2"], "refill: at most 2 groups that teach nothing replaced a step"),
        (
            ["rollout.max_refill_groups=2", "algorithm=reinforce_pp"],
            "refill: at most 2 groups with fewer than two scored answers replaced a step: up to 16 answers more; "
            "groups that score alike do teach",
        ),
        (
            ["rollout.max_refill_groups=2", "algorithm=reinforce_pp", "rollout.min_pass_rate=0.1"],
            "with fewer than two scored answers or outside the pass rates replaced",
        ),
        (["rollout.max_staleness=1"], "weights up to 1 version old"),
        (["rollout.max_staleness=3"], "weights up to 3 versions old"),
    ],
)
def test_check_says_which_groups_are_replaced_and_how_old_answers_may_be(overrides: list[str], said: str) -> None:
    assert said in report(parse_recipe(MINIMAL, overrides))
