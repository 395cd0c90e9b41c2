"""The objective in words: formulas as the functions' own docstrings have them, for one recipe or for all of it."""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from grpo.advantages import BASELINES, SCALES, best_of_k, normalized_then_summed
from grpo.objective.corrections import CORRECTIONS, off_policy
from grpo.objective.kl import GRADIENTS, KL_ESTIMATORS, UNBIASED, gradient_of
from grpo.objective.policy_losses import POLICY_LOSSES
from grpo.packing import AGGREGATIONS
from grpo.recipe import Algorithm, Recipe
from grpo.recipe.presets import preset_keys


class Formula(NamedTuple):
    """What a docstring says: its first sentence, its ``Formula:`` and its ``Source:``.

    >>> formula_of(KL_ESTIMATORS["k1"]).formula
    'd'
    """

    summary: str
    formula: str
    source: str


def formula_of(function: Callable[..., Any]) -> Formula:
    """Raises ValueError where the docstring lacks a part."""
    text = inspect.getdoc(function) or ""
    parts = re.fullmatch(r"(.*?)\n\nFormula: (.*?)\nSource: (.*?)(\n\n.*)?", text, re.DOTALL)
    if parts is None:
        raise ValueError(f"{function.__qualname__} has no docstring of the form 'Summary. Formula: ... Source: ...'")
    return Formula(*(" ".join(part.split()) for part in parts.groups()[:3]))


def objective_lines(recipe: Recipe) -> Iterator[str]:
    """The objective that a recipe asks for, term by term, with its constants."""
    algorithm = recipe.algorithm
    yield from _preset_line(recipe)
    yield f"minimize the sum over loss tokens of w ({_terms(algorithm)})"
    yield from _line("w", AGGREGATIONS[algorithm.loss_type], algorithm)
    yield from _line("P, policy term", POLICY_LOSSES[algorithm.policy_loss], algorithm)
    if algorithm.delta is not None:
        yield f"but the unclipped ratio is at most delta = {algorithm.delta:g} (dual clip, arXiv 1912.09729)"
    yield from _advantage_lines(algorithm)
    if algorithm.corrects:
        rho = "policy/behavior" if algorithm.policy_loss == "reinforce" else "old/behavior"
        yield from _line(f"c, with rho = {rho}", CORRECTIONS[algorithm.importance_sampling_mode], algorithm)
    if algorithm.off_policy_mask_threshold is not None:
        yield from _line("M", off_policy, algorithm)
    if algorithm.top_entropy_quantile < 1:
        yield f"H: 1 on the {algorithm.top_entropy_quantile:.0%} of an update's tokens with the highest entropy, else 0"
    if algorithm.mask_truncated_completions:
        yield (
            "answers cut off at rollout.max_completion_length have no loss tokens, though their rewards count in the "
            "advantages; mask_truncated_completions = true"
        )
    yield from _kl_lines(algorithm)
    yield _ratio_line(recipe)


def maths_document() -> str:
    """``docs/maths.md``: every formula, the function that computes it, and its source."""
    sections: Mapping[str, tuple[str, Mapping[str, Callable[..., Any]]]] = {
        "Baselines": ("`baseline`, subtracted from an answer's reward R", BASELINES),
        "Scales": ("`scale_rewards`, by which the difference is divided", SCALES),
        "Rewards before that": (
            "`pass_at_k` above 1, and `multi_objective_aggregation: normalize_then_sum`",
            {"pass_at_k": best_of_k, "normalize_then_sum": normalized_then_summed},
        ),
        "Policy terms": (
            "`policy_loss`. r = policy/old, A the answer's advantage, sg[] without gradient, clip(r) is r within "
            "[1 - epsilon, 1 + epsilon_high], mean_i over the loss tokens of one answer",
            POLICY_LOSSES,
        ),
        "Weights of tokens": ("`loss_type`", AGGREGATIONS),
        "Corrections": (
            "`importance_sampling_mode`, and `off_policy_mask_threshold`. rho = old/behavior of a token, for REINFORCE "
            "policy/behavior",
            CORRECTIONS | {"off_policy_mask_threshold": off_policy},
        ),
        "KL estimates": ("`kl_estimator`, d = log policy - log reference", KL_ESTIMATORS),
    }
    blocks = [_HEAD]
    blocks += [_table(title, words, functions) for title, (words, functions) in sections.items()]
    return "\n\n".join([*blocks, _kl_table()]) + "\n"


_HEAD = """# The objective

<!-- made by `make docs` from the docstrings of the functions named here; edit those -->

The loss is a sum over loss tokens of `weight x (policy term x correction + beta KL - entropy_coef entropy)`, with the
weights decided once from the counts of the whole update, so that no split into rows, micro-batches or processes can
change it. Each part is a function by name. `grpo check RECIPE` prints the objective that a recipe comes to."""


def _table(title: str, words: str, functions: Mapping[str, Callable[..., Any]]) -> str:
    rows = [f"## {title}", "", f"{words}.", "", "| name | formula | what it is | source | function |", "|" + "---|" * 5]
    for name, function in functions.items():
        found = formula_of(function)
        place = f"`{function.__module__}.{function.__qualname__}`"
        cells = (f"`{name}`", f"`{found.formula}`", found.summary, found.source, place)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _kl_table() -> str:
    rows = ["## What the gradient of a KL term estimates", "", "While answers come from the policy itself.", ""]
    rows += ["| `kl_in` | `kl_estimator` | gradient |", "|---|---|---|"]
    rows += [
        f"| {place} | {name} | {words.replace('|', chr(92) + '|')} |" for (place, name), words in GRADIENTS.items()
    ]
    corrected = (("k1, k3", UNBIASED), ("k2", "the gradient of E[d^2/2]"))
    place = "loss, `kl_importance_correction: true`"
    rows += [
        f"| {place} | {names} | {words.replace('|', chr(92) + '|')}, off-policy too |" for names, words in corrected
    ]
    return "\n".join(rows)


def _preset_line(recipe: Recipe) -> Iterator[str]:
    """The preset, and what the recipe has in place of its keys."""
    name = recipe.algorithm.preset
    if name is None:
        return
    changed = []
    for key, value in preset_keys(name, recipe.rollout.problems_per_step).items():
        section, _, last = key.partition(".")
        found = getattr(getattr(recipe, section), last)
        if found != value:
            changed.append(f"{key}={_written(found)} (not {_written(value)})")
    yield f"preset {name}" + (f", but {', '.join(changed)}" if changed else "")


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _terms(algorithm: Algorithm) -> str:
    factors = ["P"] + ["c"] * algorithm.corrects
    factors += ["M"] * (algorithm.off_policy_mask_threshold is not None) + ["H"] * (algorithm.top_entropy_quantile < 1)
    terms = " ".join(factors)
    if algorithm.beta and algorithm.kl_in == "loss":
        terms += f" + {algorithm.beta:g} {'r ' if algorithm.kl_importance_correction else ''}KL"
    return terms + (f" - {algorithm.entropy_coef:g} entropy" if algorithm.entropy_coef else "")


def _advantage_lines(algorithm: Algorithm) -> Iterator[str]:
    if algorithm.multi_objective_aggregation == "normalize_then_sum":
        yield from _line("A, advantage", normalized_then_summed, algorithm)
        return
    yield f"A, advantage: (R - b) / scale, b: {algorithm.baseline}, scale: {algorithm.scale_rewards}"
    yield from _line("b", BASELINES[algorithm.baseline], algorithm)
    yield from _line("scale", SCALES[algorithm.scale_rewards], algorithm)
    if algorithm.pass_at_k > 1:
        yield from _line("R", best_of_k, algorithm)
    if algorithm.beta and algorithm.kl_in == "reward":
        yield f"R: the reward - {algorithm.beta:g} x the sum of KL over the answer's loss tokens"


def _line(label: str, function: Callable[..., Any], algorithm: Algorithm) -> Iterator[str]:
    """The formula, then the constants that stand in it."""
    found = formula_of(function)
    values = {name: value for name, value in algorithm.model_dump().items() if isinstance(value, int | float)}
    values |= {"epsilon_high": algorithm.clip_range[1] - 1, "k": algorithm.pass_at_k}
    written = f"{found.formula} epsilon epsilon_high" if "clip(" in found.formula else found.formula
    constants = ", ".join(f"{n} = {value:.6g}" for n, value in values.items() if re.search(rf"\b{n}\b", written))
    formula = re.sub(r"^[A-Z]?\w?(_i)? = ", "", found.formula)  # the label says what it is
    yield f"{label}: {formula}" + (f"; {constants}" if constants else "") + f" ({found.source})"


def _kl_lines(algorithm: Algorithm) -> Iterator[str]:
    if not algorithm.beta:
        return
    estimate = formula_of(KL_ESTIMATORS[algorithm.kl_estimator]).formula
    where = f"KL = {estimate}, d = log {'old' if algorithm.kl_in == 'reward' else 'policy'} - log reference"
    yield f"{where}; on average its gradient is {gradient_of(algorithm)}"
    steps, alpha = algorithm.ref_model_sync_steps, algorithm.ref_model_mixup_alpha
    if steps == 0:
        yield "reference: the model that the run began with, throughout; ref_model_sync_steps = 0"
        return
    mixed = "the policy" if alpha == 1 else f"{alpha:g} x the policy + {1 - alpha:g} x itself"
    yield (
        f"reference: replaced by {mixed} every {steps:,} step{'s' if steps > 1 else ''}; "
        f"ref_model_sync_steps = {steps}, ref_model_mixup_alpha = {alpha:g}"
    )


def _ratio_line(recipe: Recipe) -> str:
    """What r is, where some term has it, and how many updates a step makes."""
    algorithm = recipe.algorithm
    updates = f"{algorithm.updates_per_step} update{'s' if algorithm.updates_per_step > 1 else ''} a step"
    if algorithm.policy_loss == "reinforce" and not (algorithm.beta and algorithm.kl_importance_correction):
        return updates
    if algorithm.old == "behavior":
        return f"r = policy/behavior (the engine); {updates}"
    so = ", so r is 1" + (" but for staleness" if recipe.rollout.max_staleness else "")
    return (
        "r = policy/old (the learner as it was when they were sampled); "
        f"{updates}{so if algorithm.updates_per_step == 1 else ''}"
    )
