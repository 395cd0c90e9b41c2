"""The reward functions that TRL and open-r1 know by name, as rewards of ours."""

from collections.abc import Callable
from typing import Any

from grpo.errors import UserError
from grpo.peers.mapping import NoCounterpartError, Noted, Settings

Reward = dict[str, Any]
JUDGE = {"correct": "math_answer", "extract": "auto"}  # open-r1 takes a box, or else the first formula

NAMED: dict[str, Callable[[Settings], Reward]] = {
    "accuracy": lambda _: {"name": "math_answer", "args": {"extract": "auto"}},
    "format": lambda _: {"name": "format", "args": {"mode": "strict_lines"}},
    "tag_count": lambda _: {"name": "tag_count"},
    "repetition_penalty": lambda settings: {
        "name": "repetition",
        "args": {
            "ngram_size": settings["repetition_n_grams"],
            "max_penalty": settings.number("repetition_max_penalty"),
        },
    },
    "cosine": lambda settings: {
        "name": "cosine_length",
        "args": {
            **JUDGE,
            "max_length": settings["cosine_max_len"],
            **{
                name: settings.number(f"cosine_{name}")
                for name in ("min_value_wrong", "max_value_wrong", "min_value_correct", "max_value_correct")
            },
        },
    },
    "length": lambda _: {"name": "group_length", "args": dict(JUDGE)},
    "soft_overlong_punishment": lambda settings: {
        "name": "length",
        "args": {"max_tokens": settings["max_completion_len"], "soft_tokens": settings["soft_punish_cache"]},
    },
    "code": lambda _: {"name": "code_tests", "args": {"score": "share"}},
    "binary_code": lambda _: {"name": "code_tests"},
    "cf_code": lambda settings: {
        "name": "code_tests",
        "args": {"score": "all" if settings["code_eval_scoring_mode"] == "pass_fail" else "share"},
    },
}
ALIASES = {
    "trl.rewards.accuracy_reward": "accuracy",
    "accuracy_reward": "accuracy",
    "format_reward": "format",
    "tag_count_reward": "tag_count",
}
WITHOUT = {  # open-r1's names for functions that have no counterpart, and what they are called in its package
    "reasoning_steps": "reasoning_steps_reward",
    "code_format": "",
    "ioi_code": "ioi_code_reward",
}
FILLED: Reward = {"name": "math_answer", "args": {"extract": "auto"}}


def rewards(settings: Settings) -> Noted | None:
    """The list ``rewards``, and a note on each function that is not in it.

    Raises:
        NoCounterpartError: none of the functions has a counterpart.
    """
    names = settings["reward_funcs"]
    names = [names] if isinstance(names, str) else names
    weights = settings["reward_weights"]
    if not names and weights:
        raise NoCounterpartError("the functions that it weighs stand in a script: set weight beside each reward")
    if not names:
        return None
    if weights and len(weights) != len(names):
        raise UserError(
            f"reward_weights has {len(weights)} numbers, and reward_funcs names {len(names)} functions. Give each one"
        )
    weights = weights or [1.0] * len(names)
    found: list[Reward] = []
    notes: list[str] = []
    for name, weight in zip(names, weights, strict=True):
        try:
            reward = _reward(ALIASES.get(name, name), settings)
        except NoCounterpartError as error:
            notes.append(str(error))
            continue
        found.append(reward | ({} if weight == 1 else {"weight": float(weight)}))
    if not found:
        raise NoCounterpartError(" ".join(notes))
    return Noted(found, " ".join(notes))


def _reward(name: str, settings: Settings) -> Reward:
    if name in NAMED:
        return NAMED[name](settings)
    module, _, function = str(name).rpartition(".")
    if module:
        return {"fn": f"{module}:{function}"}
    if WITHOUT.get(name):
        raise NoCounterpartError(
            f"{name} is no reward of ours; open-r1's own runs here, where that is installed, as "
            f"{{fn: open_r1.rewards:{WITHOUT[name]}}}."
        )
    raise NoCounterpartError(
        f"{name} is no reward of ours; put the function into a file, unchanged, and name it as {{fn: FILE.py:{name}}}."
    )
