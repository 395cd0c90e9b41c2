"""What no single key shows to be wrong: keys that contradict each other, or ask for what is not there yet."""

import difflib
import re
from collections import Counter
from pathlib import Path

from grpo.errors import RecipeError
from grpo.recipe.schema import Algorithm, Recipe
from rewards import VERIFIERS, installed_rewards


def check_together(recipe: Recipe) -> None:
    """Refuse a recipe whose keys do not go together; the message names key, value, what is allowed and a fix.

    Raises:
        RecipeError: the first contradiction found.
    """
    _check_batch(recipe)
    _check_processes(recipe)
    _check_sleep(recipe)
    _check_sampling(recipe)
    _check_algorithm(recipe)
    _check_rewards(recipe)
    _check_data(recipe)


# without making it another run; on how many processes it goes on, too, to the rounding of sums
MAY_CHANGE = (
    *("max_steps", "output_dir", "log.", "checkpoint.", "evaluation.", "scoring."),
    *("num_gpus", "parallel.", "rollout.num_engines", "rollout.tensor_parallel"),
    *("rollout.expert_parallel", "rollout.sleep"),
)


def check_resumable(before: Recipe, now: Recipe) -> None:
    """Refuse to go on with a run under a recipe that would have made another run.

    Raises:
        RecipeError: a key differs that shapes problems, answers or updates.
    """
    old, new = _leaves(before.model_dump()), _leaves(now.model_dump())
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not key.startswith(MAY_CHANGE):
            raise RecipeError(
                key,
                new.get(key),
                f"the run that is to be resumed has {old.get(key)!r}",
                f"Resume with {key}={old.get(key)}, or start a new run in another output_dir.",
            )


def _leaves(tree: object, path: str = "") -> dict[str, object]:
    """Every value below ``tree`` by its dotted key."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        items = dict(enumerate(tree)).items()
    else:
        return {path: tree}
    prefix = f"{path}." if path else ""
    return {key: value for name, item in items for key, value in _leaves(item, f"{prefix}{name}").items()}


def _check_batch(recipe: Recipe) -> None:
    rollout, learner, num_minibatches = recipe.rollout, recipe.learner, recipe.algorithm.num_minibatches
    if rollout.num_generations < 2:
        raise RecipeError(
            "rollout.num_generations",
            rollout.num_generations,
            "must be at least 2: an answer is judged against the others of its group, and alone it has none",
            "Use 8, say.",
        )
    if recipe.answers_per_step % num_minibatches:
        divisors = [n for n in range(1, recipe.answers_per_step + 1) if recipe.answers_per_step % n == 0]
        raise RecipeError(
            "algorithm.num_minibatches",
            num_minibatches,
            f"must divide the {recipe.answers_per_step} answers of a step "
            f"({rollout.problems_per_step} problems x {rollout.num_generations} answers)",
            f"Use {min(divisors, key=lambda n: abs(n - num_minibatches))}, say.",
        )
    longest = rollout.max_prompt_length + rollout.max_completion_length
    if learner.row_tokens < longest:
        raise RecipeError(
            "learner.row_tokens",
            learner.row_tokens,
            f"must hold the longest sample, rollout.max_prompt_length + rollout.max_completion_length = {longest}",
            f"Use {longest} or more, or shorten either length.",
        )


def _check_processes(recipe: Recipe) -> None:
    rollout, parallel = recipe.rollout, recipe.parallel
    if rollout.engine == "transformers" and rollout.num_engines:
        raise RecipeError(
            "rollout.num_engines",
            rollout.num_engines,
            "must be 0 with rollout.engine=transformers, which samples from the learner's own weights in its process",
            "Set rollout.num_engines=0, or rollout.engine=vllm.",
        )
    if rollout.servers and (rollout.num_engines or rollout.engine == "transformers" or rollout.tool):
        other = "num_engines" if rollout.num_engines else "engine" if rollout.engine == "transformers" else "tool"
        raise RecipeError(
            "rollout.servers",
            rollout.servers,
            f"does not go with rollout.{other} = {getattr(rollout, other)!r}: servers are all of the engine",
            f"Leave rollout.servers or rollout.{other} out.",
        )
    if parallel.num_processes > 1 and not rollout.num_engines and not rollout.servers:
        raise RecipeError(
            "rollout.num_engines",
            0,
            f"must be at least 1 with {parallel.num_processes} learner processes: an engine within one of them would "
            "take their process group for its own",
            "Set rollout.num_engines=1, or more.",
        )
    if parallel.expert not in (1, parallel.tensor):
        raise RecipeError(
            "parallel.expert",
            parallel.expert,
            f"must be 1 or parallel.tensor ({parallel.tensor}): the processes that share a layer share its experts",
            f"Set parallel.expert={parallel.tensor}, or both to another size.",
        )
    for name in ("shard", "context"):
        if parallel.pipeline > 1 and getattr(parallel, name) > 1:
            raise RecipeError(
                f"parallel.{name}",
                getattr(parallel, name),
                f"does not go with parallel.pipeline ({parallel.pipeline}): a stage's rows come and go in another "
                "order than parameters or keys are gathered in",
                f"Set parallel.{name}=1 or parallel.pipeline=1; replicate and tensor go with pipeline.",
            )


def _check_sleep(recipe: Recipe) -> None:
    rollout = recipe.rollout
    if not rollout.sleep:
        return
    elsewhere = {"num_engines": rollout.num_engines, "servers": rollout.servers}
    others = {f"rollout.{key}": value for key, value in elsewhere.items() if value}
    if rollout.engine != "vllm":
        others["rollout.engine"] = rollout.engine
    if not recipe.num_gpus:
        others["num_gpus"] = 0
    for key, value in others.items():
        raise RecipeError(
            "rollout.sleep",
            True,
            f"does not go with {key} = {value!r}: what sleeps is a vLLM engine that shares its GPU with the learner",
            "Set rollout.sleep=false.",
        )


def _check_sampling(recipe: Recipe) -> None:
    rollout, algorithm = recipe.rollout, recipe.algorithm
    narrowed = [("rollout.top_p", rollout.top_p)] if rollout.top_p < 1 else []
    narrowed += [("rollout.top_k", rollout.top_k)] if rollout.top_k else []
    for key, value in narrowed:
        off = f"Set {key}={1.0 if key.endswith('p') else 0}"
        if algorithm.importance_sampling_correction or algorithm.off_policy_mask_threshold is not None:
            cause = (
                "importance_sampling_correction"
                if algorithm.importance_sampling_correction
                else "off_policy_mask_threshold"
            )
            raise RecipeError(
                key,
                value,
                f"does not go with algorithm.{cause}: the plain ratio is wrong outside the "
                "set of tokens that was sampled from",
                f"{off}, or algorithm.{cause}={'false' if cause.endswith('correction') else 'null'}.",
            )
        if algorithm.old == "behavior":
            raise RecipeError(
                key,
                value,
                "does not go with algorithm.old=behavior: the policy's ratio to the engine is wrong outside the set "
                "of tokens that was sampled from",
                f"{off}, or algorithm.old=recompute.",
            )
    if rollout.engine == "transformers" and recipe.engine_dtype != recipe.learner.dtype:
        raise RecipeError(
            "rollout.engine_dtype",
            rollout.engine_dtype,
            f"must be learner.dtype ({recipe.learner.dtype}): the transformers engine samples from the learner's own "
            "weights",
            "Leave rollout.engine_dtype out, or use rollout.engine=vllm.",
        )
    if "" in rollout.stop:
        raise RecipeError("rollout.stop", rollout.stop, "must not hold an empty text", "Remove it.")
    if recipe.evaluation.temperature == 0 and recipe.evaluation.num_samples > 1:
        raise RecipeError(
            "evaluation.num_samples",
            recipe.evaluation.num_samples,
            "must be 1 at evaluation.temperature 0: greedy answers to one problem are all the same",
            "Set evaluation.num_samples=1, or a temperature above 0.",
        )


def _check_algorithm(recipe: Recipe) -> None:
    _check_advantages(recipe)
    _check_kl(recipe.algorithm, recipe.learner.dtype)
    _check_used(recipe.algorithm)
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
    rates = [right / rollout.num_generations for right in range(1, rollout.num_generations)]
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
    if algorithm.ref_update_steps and not algorithm.beta:
        raise RecipeError(
            "algorithm.ref_update_steps",
            algorithm.ref_update_steps,
            "needs algorithm.beta above 0: without the KL term there is no reference to replace",
            "Set algorithm.beta=0.001, say, or algorithm.ref_update_steps=0.",
        )
    if algorithm.ref_model_mixup_alpha < 1 and not algorithm.ref_update_steps:
        raise RecipeError(
            "algorithm.ref_model_mixup_alpha",
            algorithm.ref_model_mixup_alpha,
            "needs algorithm.ref_update_steps above 0: it says how much of the policy goes into the reference then",
            "Set algorithm.ref_update_steps=100, say, or algorithm.ref_model_mixup_alpha=1.0.",
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


def _check_used(algorithm: Algorithm) -> None:
    """Refuse keys that would change nothing beside what the others say."""
    truncates = algorithm.importance_sampling_mode.endswith("truncate")
    unused = {
        "importance_sampling_min": truncates and "needs a mode that masks, token_mask or sequence_mask",
        "importance_sampling_mode": not algorithm.corrects
        and "needs a correction: old=recompute (or reinforce), and on",
        "kl_importance_correction": not algorithm.beta and "needs beta above 0",
        "dppo_threshold": algorithm.policy_loss != "dppo" and "needs policy_loss=dppo",
        "sapo_temperature_pos": algorithm.policy_loss != "sapo" and "needs policy_loss=sapo",
        "sapo_temperature_neg": algorithm.policy_loss != "sapo" and "needs policy_loss=sapo",
    }
    defaults = type(algorithm)()
    for name, reason in unused.items():
        value, default = getattr(algorithm, name), getattr(defaults, name)
        if reason and value != default:
            raise RecipeError(
                f"algorithm.{name}", value, reason, f"Leave it at {str(default).lower()}, or set the other."
            )


def _check_policies(recipe: Recipe) -> None:
    algorithm = recipe.algorithm
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
            "Use gspo_token, or sequence_mask.",
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


def _check_rewards(recipe: Recipe) -> None:
    counts = Counter(reward.label for reward in recipe.rewards)
    for index, reward in enumerate(recipe.rewards):
        _check_source(f"rewards.{index}", reward.name, reward.fn)
        if counts[reward.label] > 1:
            raise RecipeError(
                f"rewards.{index}.name",
                reward.label,
                f"stands {counts[reward.label]} times in the list, and metrics go by name",
                "Keep one, with the sum of the weights.",
            )
    if not any(reward.weight for reward in recipe.rewards if not reward.gate):
        raise RecipeError(
            "rewards.0.weight",
            recipe.rewards[0].weight,
            "must not be 0 in every reward that is no gate: there would be nothing to learn from",
            "Set one to 1.0.",
        )
    if recipe.rewards[0].gate:
        raise RecipeError(
            "rewards.0.gate",
            True,
            "must not be the first reward, which says what is correct",
            "Put the reward that judges the answer first, and the gate after it.",
        )
    if recipe.scoring.audit is not None:
        _check_source("scoring.audit", recipe.scoring.audit.name, recipe.scoring.audit.fn)


def _check_source(key: str, name: str | None, fn: str | None) -> None:
    """A name that there is, or a function whose file is there; what the function does is found when it is loaded."""
    if fn is not None:
        place, _, function = fn.rpartition(":")
        if not place or not function:
            raise RecipeError(f"{key}.fn", fn, "must be FILE.py:FUNCTION or package.module:FUNCTION", "Add the part.")
        if place.endswith(".py") and not Path(place).expanduser().is_file():
            raise RecipeError(f"{key}.fn", fn, f"there is no file {place}", "Paths are relative to the working folder.")
    elif name is None:
        raise RecipeError(f"{key}.name", None, "is required, or else fn", "Write name: number, say.")
    elif name not in VERIFIERS and name not in (installed := installed_rewards()):
        known = sorted({*VERIFIERS, *installed})
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{nearest[0]}'?" if nearest else "A function of your own goes by fn: FILE.py:FUNCTION."
        raise RecipeError(f"{key}.name", name, f"must be one of {', '.join(known)}", hint)


def _check_data(recipe: Recipe) -> None:
    data = recipe.data
    for name, source in (("train", data.train), ("held_out", data.held_out)):
        if source is not None and source.reference_pattern is not None:
            _check_pattern(f"data.{name}.reference_pattern", source.reference_pattern)
    limit = data.train.limit
    if data.held_out is None and limit is not None and limit <= data.num_held_out:
        raise RecipeError(
            "data.train.limit",
            limit,
            f"must exceed data.num_held_out ({data.num_held_out}): held-out problems are set apart from these rows",
            "Raise the limit, lower data.num_held_out, or name a data.held_out of its own.",
        )


def _check_pattern(key: str, pattern: str) -> None:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise RecipeError(key, pattern, f"is no regular expression ({error})", "Write '#### (.*)', say.") from error
    if not num_groups:
        raise RecipeError(
            key, pattern, "must hold a group in round brackets, which is the reference", "Write '#### (.*)', say."
        )
