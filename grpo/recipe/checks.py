"""What no single key shows to be wrong: keys that contradict each other, or ask for what is not there yet."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from grpo.errors import RecipeError, did_you_mean
from grpo.metrics import UnknownMetricError, check_name
from grpo.recipe.algorithm_checks import check_algorithm
from grpo.recipe.engine_args import check_engine_args
from grpo.recipe.schema import Recipe
from grpo.recipe.template_checks import check_template
from rewards import VERIFIERS, installed_rewards


def check_together(recipe: Recipe) -> None:
    """Refuse a recipe whose keys do not go together; the message names key, value, what is allowed and a fix.

    Raises:
        RecipeError: the first contradiction found.
    """
    check_template(recipe)
    _check_batch(recipe)
    _check_processes(recipe)
    _check_sleep(recipe)
    check_engine_args(recipe)
    _check_sampling(recipe)
    check_algorithm(recipe)
    _check_schedule(recipe)
    _check_rewards(recipe)
    _check_data(recipe)
    _check_best_checkpoint(recipe)


def _check_best_checkpoint(recipe: Recipe) -> None:
    """The best checkpoint is chosen by what was logged at its step."""
    name, kept, evaluation = recipe.checkpoint.metric_for_best_model, recipe.checkpoint, recipe.evaluation
    if name is None:
        return
    of_evaluation = name == "pass@1" or name.startswith("val-")
    if name != "pass@1":
        try:
            check_name(name)
        except UnknownMetricError as error:
            allowed = f"is no metric ({error.nearest}); pass@1 is the newest evaluation's"
            raise RecipeError("checkpoint.metric_for_best_model", name, allowed, "Use pass@1 or reward, say.") from None
    if of_evaluation and kept.every and (not evaluation.every or kept.every % evaluation.every):
        raise RecipeError(
            "checkpoint.metric_for_best_model",
            name,
            f"is measured every {evaluation.every} steps (evaluation.every; 0: only at both ends), and checkpoints are "
            f"saved every {kept.every}",
            f"Set evaluation.every={kept.every}, or choose a metric of every step, such as reward.",
        )


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
        raise RecipeError(
            "algorithm.num_minibatches",
            num_minibatches,
            f"must divide the {recipe.answers_per_step} answers of a step "
            f"({rollout.problems_per_step} problems x {rollout.num_generations} answers)",
            f"Use {_nearest_divisor(recipe.answers_per_step, num_minibatches)}, say.",
        )
    longest = rollout.max_prompt_length + rollout.max_completion_length
    if learner.row_tokens < longest:
        raise RecipeError(
            "learner.row_tokens",
            learner.row_tokens,
            f"must hold the longest sample, rollout.max_prompt_length + rollout.max_completion_length = {longest}",
            f"Use {longest} or more, or shorten either length.",
        )


def _nearest_divisor(whole: int, wanted: int) -> int:
    """Within a thousand of ``wanted`` the nearest; else one that both have."""
    near = range(max(1, wanted - 1000), min(whole, wanted + 1000) + 1)
    divisors = [number for number in near if whole % number == 0]
    return min(divisors, key=lambda number: abs(number - wanted), default=math.gcd(whole, wanted))


def _check_addresses(servers: Sequence[str]) -> None:
    for index, address in enumerate(servers):
        try:
            place = urlsplit(address)
            usable = place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0
        except ValueError:  # of a port that is no number, or brackets that do not close
            usable = False
        if not usable:
            allowed = "must be the address of a server, with its scheme and port"
            raise RecipeError(f"rollout.servers.{index}", address, allowed, "Write http://127.0.0.1:8000, say.")


def _check_processes(recipe: Recipe) -> None:
    rollout, parallel = recipe.rollout, recipe.parallel
    _check_addresses(rollout.servers)
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
        for cause, found, on_policy in (
            ("algorithm.num_minibatches", algorithm.num_minibatches, 1),
            ("algorithm.num_iterations", algorithm.num_iterations, 1),
            ("rollout.max_staleness", rollout.max_staleness, 0),
        ):
            if found > on_policy:
                raise RecipeError(
                    key,
                    value,
                    f"does not go with {cause} = {found}: the policy moves from the one that sampled, and its plain "
                    "ratio to it is wrong where both are cut to the set of tokens that was sampled from",
                    f"{off}, or {cause}={on_policy}.",
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


def _check_schedule(recipe: Recipe) -> None:
    learner = recipe.learner
    if learner.min_lr_rate and learner.lr_scheduler_type == "constant":
        raise RecipeError(
            "learner.min_lr_rate",
            learner.min_lr_rate,
            "has no effect with learner.lr_scheduler_type=constant, which does not fall",
            "Set learner.lr_scheduler_type=cosine or linear, or learner.min_lr_rate=0.",
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
        hint = did_you_mean(name, known, "A function of your own goes by fn: FILE.py:FUNCTION.")
        raise RecipeError(f"{key}.name", name, f"must be one of {', '.join(known)}", hint)


def _check_data(recipe: Recipe) -> None:
    data = recipe.data
    for key, source in {**data.train_sources(), **data.held_out_sources()}.items():
        if source.reference_pattern is not None:
            _check_pattern(f"{key}.reference_pattern", source.reference_pattern)
    limit = None if isinstance(data.train, list) else data.train.limit
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
