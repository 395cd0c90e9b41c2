"""Algorithms by name: what each sets, where a recipe does not say otherwise.

``algorithm: dapo`` is the same as ``algorithm: {preset: dapo}``; keys beside ``preset`` win. A preset sets keys of the
section ``algorithm``, and those of ``rollout`` that belong to the algorithm, as the paper named above it has them.
"""

from typing import Any, get_args

from grpo.errors import RecipeError, did_you_mean
from grpo.recipe.schema import Algorithm, Preset

# DeepSeek-R1-Zero, arXiv 2501.12948: the reference is replaced every 400 steps
R1_ZERO = {
    "loss_type": "grpo",
    "scale_rewards": "group",
    "beta": 0.001,
    "kl_estimator": "k3",
    "ref_model_sync_steps": 400,
}

# DAPO, arXiv 2503.14476, section 4.1: clip-higher, token-level loss, no KL; the dynamic sampling is in `rollout`
DAPO = {"loss_type": "dapo", "scale_rewards": "group", "epsilon": 0.2, "epsilon_high": 0.28, "beta": 0.0}

# Dr.GRPO, arXiv 2503.20783: neither the length nor the group's spread divides anything
DR_GRPO = {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0}

# GSPO, arXiv 2507.18071, section 5.1
GSPO = {
    "policy_loss": "gspo",
    "loss_type": "grpo",
    "scale_rewards": "group",
    "epsilon": 3e-4,
    "epsilon_high": 4e-4,
    "beta": 0.0,
}

# CISPO, MiniMax-M1, arXiv 2506.13585: no lower bound; the upper one as ScaleRL, arXiv 2510.13786, found it
CISPO = {
    "policy_loss": "cispo",
    "loss_type": "dapo",
    "scale_rewards": "group",
    "epsilon": 1.0,
    "epsilon_high": 4.0,
    "beta": 0.0,
}

# RLOO, arXiv 2402.14740: REINFORCE over whole answers, each against the others, with the KL in the reward
RLOO = {
    "policy_loss": "reinforce",
    "loss_type": "dr_grpo",
    "baseline": "leave_one_out",
    "scale_rewards": "none",
    "beta": 0.001,
    "kl_in": "reward",
    "kl_estimator": "k1",
}

# REINFORCE++, arXiv 2501.03262: no groups, the step's mean and spread; the KL in the reward
REINFORCE_PP = {
    "policy_loss": "clip",
    "loss_type": "dapo",
    "baseline": "batch",
    "scale_rewards": "batch",
    "beta": 0.001,
    "kl_in": "reward",
    "kl_estimator": "k1",
}

# TinyZero (github.com/Jiayi-Pan/TinyZero): its PPO settings, KL in the reward, with groups in the critic's place
TINYZERO = {
    "loss_type": "dapo",
    "scale_rewards": "group",
    "epsilon": 0.2,
    "beta": 0.001,
    "kl_in": "reward",
    "kl_estimator": "k1",
}

PRESETS: dict[str, dict[str, Any]] = {
    "r1_zero": R1_ZERO,
    "dapo": DAPO,
    "dr_grpo": DR_GRPO,
    "gspo": GSPO,
    "cispo": CISPO,
    "rloo": RLOO,
    "reinforce_pp": REINFORCE_PP,
    "tinyzero": TINYZERO,
}
assert set(PRESETS) == set(get_args(Preset)), "every name of the schema is a preset"

PLAIN_GRPO = "algorithm='{loss_type: grpo, beta: 0.04}'"  # DeepSeekMath, arXiv 2402.03300: a few keys, and no preset
DAPO_REFILLS = 4  # times the groups of a step, at most, which keeps a step finite where nothing is learned from


def as_section(algorithm: object) -> object:
    """``algorithm: dapo`` as the section that it is short for."""
    return {"preset": algorithm} if isinstance(algorithm, str) else algorithm


def preset_keys(name: str, problems_per_step: int) -> dict[str, Any]:
    """Every dotted key that a preset sets in a recipe of so many problems a step, with its value there.

    >>> preset_keys("dapo", 16)["rollout.max_refill_groups"]
    64
    """
    keys = {f"algorithm.{key}": value for key, value in PRESETS[name].items()}
    if name == "dapo":
        keys["rollout.max_refill_groups"] = DAPO_REFILLS * problems_per_step
    return keys


def lay_under(tree: dict[str, Any]) -> None:
    """Add to a recipe's tree, in place, what its preset sets and it does not.

    Raises:
        RecipeError: there is no such preset.
    """
    section, rollout = tree.get("algorithm"), tree.get("rollout")
    if not isinstance(section, dict) or not isinstance(section.get("preset"), str):
        return
    name = section["preset"]
    if name not in PRESETS:
        raise RecipeError("algorithm.preset", name, f"must be one of {', '.join(PRESETS)}", _meant(name))
    problems = rollout.get("problems_per_step") if isinstance(rollout, dict) else None
    for key, value in preset_keys(name, problems if isinstance(problems, int) else 0).items():
        place, _, last = key.partition(".")
        if isinstance(tree.get(place), dict):
            tree[place].setdefault(last, value)


def _meant(name: str) -> str:
    if name.lower() == "grpo":
        return f"Plain GRPO, DeepSeekMath's, is {PLAIN_GRPO}."
    terms = get_args(Algorithm.model_fields["policy_loss"].annotation)
    if name.lower() in terms:
        return f"As a policy term it is algorithm.policy_loss={name.lower()}."
    return did_you_mean(name.lower(), PRESETS, "Or leave it out and set the keys.")
