"""Keys of the objective that change nothing beside what the others say, where they are set all the same."""

import json
from collections.abc import Collection, Iterator
from typing import NamedTuple

from grpo.errors import RecipeError
from grpo.recipe.presets import PRESETS
from grpo.recipe.schema import UNBOUNDED, Algorithm

CORRECTION = ("importance_sampling_mode", "importance_sampling_cap", "importance_sampling_min")
KL = ("kl_in", "kl_estimator", "kl_importance_correction")
SAPO = ("sapo_temperature_pos", "sapo_temperature_neg")


class _Idle(NamedTuple):
    """Keys of the section that have no effect, what takes it from them, and what would give it back."""

    keys: tuple[str, ...]
    cause: str
    remedy: str


def check_effects(algorithm: Algorithm) -> None:
    """Refuse a key without effect that has been set: to neither its default nor what the preset gives it.

    A resolved recipe writes every default out, so which keys somebody wrote cannot be told from which are there.

    Raises:
        RecipeError: the first such key.
    """
    for idle, name in _set_in_vain(algorithm):
        raise RecipeError(
            f"algorithm.{name}",
            getattr(algorithm, name),
            f"has no effect with {idle.cause}",
            f"Set {idle.remedy}, or algorithm.{name}={_text(getattr(Algorithm(), name))}, the default.",
        )


def without_idle_keys(algorithm: Algorithm, overrides: Collection[str]) -> Algorithm:
    """The section with what the command line took the effect from back at its default.

    A recipe's ``epsilon_high`` says nothing where ``algorithm.policy_loss=sapo`` is laid over it, and nobody should
    have to take it back by hand. What the command line itself sets in vain stays, to be refused.

    Args:
        overrides: the dotted keys that the command line sets.
    """
    if "algorithm" in overrides or not any(key.startswith("algorithm.") for key in overrides):
        return algorithm
    names = [name for _, name in _set_in_vain(algorithm) if f"algorithm.{name}" not in overrides]
    return algorithm.model_copy(update={name: getattr(Algorithm(), name) for name in names})


def _set_in_vain(algorithm: Algorithm) -> Iterator[tuple[_Idle, str]]:
    defaults, preset = Algorithm(), PRESETS.get(algorithm.preset or "", {})
    for idle in _idle(algorithm):
        for name in idle.keys:
            default = getattr(defaults, name)
            if getattr(algorithm, name) not in (default, preset.get(name, default)):
                yield idle, name


def _idle(algorithm: Algorithm) -> Iterator[_Idle]:
    if not algorithm.corrects:
        off = not algorithm.importance_sampling_correction
        settings = ["importance_sampling_correction=true"] if off else []
        settings += ["old=recompute"] if algorithm.old == "behavior" and algorithm.policy_loss != "reinforce" else []
        now = "importance_sampling_correction=false" if off else "old=behavior"
        remedy = " and ".join(f"algorithm.{setting}" for setting in settings)
        yield _Idle(CORRECTION, f"algorithm.{now}, under which nothing is corrected", remedy)
    if algorithm.importance_sampling_mode.endswith("truncate"):
        mode = algorithm.importance_sampling_mode
        yield _Idle(
            ("importance_sampling_min",),
            f"algorithm.importance_sampling_mode={mode}, which has an upper bound alone",
            f"a mode that masks, algorithm.importance_sampling_mode={mode.replace('truncate', 'mask')}",
        )
    if not algorithm.beta:
        yield _Idle(KL, "algorithm.beta=0, without a KL to the reference", "algorithm.beta=0.001")
    for keys, policy_loss in ((("dppo_threshold",), "dppo"), (SAPO, "sapo")):
        if algorithm.policy_loss != policy_loss:
            remedy = f"algorithm.policy_loss={policy_loss}"
            yield _Idle(keys, f"algorithm.policy_loss={algorithm.policy_loss}", remedy)
    if algorithm.policy_loss in UNBOUNDED:
        cause = f"algorithm.policy_loss={algorithm.policy_loss}, which bounds no ratio"
        yield _Idle(("epsilon", "epsilon_high"), cause, "algorithm.policy_loss=clip")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
