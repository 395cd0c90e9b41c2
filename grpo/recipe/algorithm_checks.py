"""Keys of the objective that do not go together: advantages, KL, ratios and corrections."""

import math

from grpo.errors import RecipeError
from grpo.recipe.schema import Algorithm, Recipe
from grpo.recipe.without_effect import check_effects


def check_algorithm(recipe: Recipe) -> None:
    """Refuse an objective whose parts contradict each other, or of which some would change nothing.

    Raises:
        RecipeError: the first contradiction found.
    """
    _check_advantages(recipe)
    _check_kl(recipe.algorithm, recipe.learner.dtype)
    check_effects(recipe.algorithm)
    _check_bounds(recipe.algorithm)
    _check_policies(recipe)


def _check_advantages(recipe: Recipe) -> None:
    algorithm, rollout = recipe.algorithm, recipe.rollout
    if algorithm.pass_at_k >= rollout.num_generations:
        raise RecipeError(
            "algorithm.pass_at_k",
            algorithm.pass_at_k,
            f"must be below rollout.num_generations ({rollout.num_generations}): a whole group has but one best",
            f"Use {max(1, rollout.num_generations // 2)}, say.",
        )
    least = math.ceil(rollout.min_pass_rate * rollout.num_generations)  # to a rounding, hence its neighbours
    counts = [right for right in (1, least - 1, least, least + 1) if 0 < right < rollout.num_generations]
    rates = [right / rollout.num_generations for right in counts]
    if not any(rollout.min_pass_rate <= rate <= rollout.max_pass_rate for rate in rates):
        raise RecipeError(
            "rollout.min_pass_rate",
            rollout.min_pass_rate,
            f"leaves no group to learn from: with rollout.max_pass_rate ({rollout.max_pass_rate:g}) it must hold a "
            f"rate between none and all of rollout.num_generations ({rollout.num_generations}) answers",
            "Set 0.1 and 0.9, say.",
        )
    if algorithm.baseline == "batch" and algorithm.scale_rewards in ("group", "mean"):
        raise RecipeError(
            "algorithm.scale_rewards",
            algorithm.scale_rewards,
            "does not go with algorithm.baseline=batch: groups that score alike are learned from, and would be divided "
            "by their own spread of 0",
            "Use batch, or none.",
        )
    negative = any(reward.weight < 0 for reward in recipe.rewards)
    if algorithm.scale_rewards == "mean" and (negative or (algorithm.beta and algorithm.kl_in == "reward")):
        raise RecipeError(
            "algorithm.scale_rewards",
            "mean",
            "needs rewards never below 0: it goes neither with negative weights nor with algorithm.kl_in=reward",
            "Use group or none.",
        )
    if algorithm.multi_objective_aggregation != "normalize_then_sum":
        return
    defaults = type(algorithm)()
    others = [
        (f"algorithm.{name}", getattr(algorithm, name), getattr(defaults, name))
        for name in ("baseline", "scale_rewards", "pass_at_k", "kl_in")
    ]
    others += [(f"rewards.{index}.gate", reward.gate, False) for index, reward in enumerate(recipe.rewards)]
    for key, value, default in others:
        if value != default:
            raise RecipeError(
                key,
                value,
                "does not go with algorithm.multi_objective_aggregation=normalize_then_sum, which normalizes each "
                "reward by itself",
                f"Set {key}={str(default).lower()}, or sum_then_normalize.",
            )


def _check_kl(algorithm: Algorithm, dtype: str) -> None:
    if algorithm.ref_model_mixup_alpha < 1 and dtype == "bfloat16":
        raise RecipeError(
            "algorithm.ref_model_mixup_alpha",
            algorithm.ref_model_mixup_alpha,
            "must be 1.0 with learner.dtype=bfloat16, in which small shares are rounded away",
            "Replace the whole reference, or use learner.dtype=float32.",
        )
    if algorithm.ref_model_sync_steps and not algorithm.beta:
        raise RecipeError(
            "algorithm.ref_model_sync_steps",
            algorithm.ref_model_sync_steps,
            "needs algorithm.beta above 0: without the KL term there is no reference to replace",
            "Set algorithm.beta=0.001, say, or algorithm.ref_model_sync_steps=0.",
        )
    if algorithm.ref_model_mixup_alpha < 1 and not algorithm.ref_model_sync_steps:
        raise RecipeError(
            "algorithm.ref_model_mixup_alpha",
            algorithm.ref_model_mixup_alpha,
            "needs algorithm.ref_model_sync_steps above 0: it says how much of the policy goes into the reference then",
            "Set algorithm.ref_model_sync_steps=100, say, or algorithm.ref_model_mixup_alpha=1.0.",
        )
    corrected = algorithm.kl_importance_correction
    if algorithm.beta and algorithm.kl_in == "loss" and algorithm.kl_estimator == "k1" and not corrected:
        raise RecipeError(
            "algorithm.kl_estimator",
            "k1",
            "has a gradient of zero on average as part of the loss: it would hold the policy back by noise alone",
            "Use k3 or k2, or algorithm.kl_in=reward, or algorithm.kl_importance_correction=true.",
        )
    if corrected and algorithm.kl_in == "reward":
        raise RecipeError(
            "algorithm.kl_importance_correction",
            True,
            "does not go with algorithm.kl_in=reward: a reward is no function of the policy that learns",
            "Set algorithm.kl_importance_correction=false, or algorithm.kl_in=loss.",
        )


def _check_bounds(algorithm: Algorithm) -> None:
    if algorithm.epsilon > 1 and algorithm.policy_loss in ("clip", "gspo", "gspo_token", "cispo"):
        raise RecipeError(
            "algorithm.epsilon",
            algorithm.epsilon,
            f"must be at most 1 with algorithm.policy_loss={algorithm.policy_loss}: the ratio's lower bound is "
            "1 - epsilon, and no ratio is below 0",
            "Use 0.2, say, or 1.0 for no lower bound.",
        )
    if algorithm.delta is not None and algorithm.delta <= algorithm.clip_range[1]:
        raise RecipeError(
            "algorithm.delta",
            algorithm.delta,
            f"must exceed the upper bound of the ratio, 1 + epsilon_high = {algorithm.clip_range[1]:g}",
            "Use 4.0, say.",
        )
    if algorithm.delta is not None and algorithm.policy_loss not in ("clip", "gspo", "gspo_token"):
        raise RecipeError(
            "algorithm.delta",
            algorithm.delta,
            f"does not go with algorithm.policy_loss={algorithm.policy_loss}: it bounds the ratio that is clipped",
            "Leave it out, or use clip.",
        )
    if algorithm.importance_sampling_min > algorithm.importance_sampling_cap:
        raise RecipeError(
            "algorithm.importance_sampling_min",
            algorithm.importance_sampling_min,
            f"must be at most algorithm.importance_sampling_cap ({algorithm.importance_sampling_cap:g})",
            "Use 0.5 and 5.0, say.",
        )


def _check_policies(recipe: Recipe) -> None:
    algorithm = recipe.algorithm
    if algorithm.policy_loss in ("gspo", "gmpo") and recipe.parallel.context > 1:
        raise RecipeError(
            "algorithm.policy_loss",
            algorithm.policy_loss,
            "does not go with parallel.context above 1: an answer's ratio would need a gradient from every process",
            "Use gspo_token, which is GSPO with a gradient for each token on its own.",
        )
    whole = algorithm.policy_loss in ("gspo", "gmpo")
    by_token = algorithm.corrects and algorithm.importance_sampling_mode == "token_mask"
    if whole and (by_token or algorithm.top_entropy_quantile < 1):
        key = "importance_sampling_mode" if by_token else "top_entropy_quantile"
        raise RecipeError(
            f"algorithm.{key}",
            getattr(algorithm, key),
            f"does not go with algorithm.policy_loss={algorithm.policy_loss}, in which every token carries its whole "
            "answer: no token could be left out",
            f"Set algorithm.{key}={'sequence_mask' if by_token else 1.0}, or algorithm.policy_loss=gspo_token.",
        )
    moves = algorithm.updates_per_step > 1 or recipe.rollout.max_staleness > 0
    if algorithm.policy_loss == "reinforce" and moves and not algorithm.corrects:
        raise RecipeError(
            "algorithm.importance_sampling_correction",
            False,
            "must be true for algorithm.policy_loss=reinforce with several updates a step or max_staleness above 0: "
            "nothing else would say that answers come from another policy",
            "Set it to true, or num_minibatches=1, num_iterations=1 and max_staleness=0.",
        )
