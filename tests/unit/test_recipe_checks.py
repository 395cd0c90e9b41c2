"""Keys that contradict each other are refused with a fix and their neighbours are not; what check says of the rest."""

import shlex

import pytest

from grpo.check import report
from grpo.errors import RecipeError
from grpo.recipe import Recipe, check_resumable, parse_recipe, with_overrides
from tests.unit.minimal_recipe import MINIMAL, refused


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
