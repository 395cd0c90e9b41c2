"""Whether a run may go on under a recipe: the keys that shape a run, and which of them differ."""

import json
import re
import shlex
from pathlib import Path

from grpo.errors import RecipeError
from grpo.recipe.schema import Recipe

# without making it another run; on how many processes it goes on, too, to the rounding of sums
MAY_CHANGE = (
    *("max_steps", "max_time", "output_dir", "log.", "checkpoint.", "evaluation.", "scoring."),
    *("num_gpus", "parallel.", "rollout.num_engines", "rollout.tensor_parallel"),
    *("rollout.expert_parallel", "rollout.sleep"),
)


def check_resumable(before: Recipe, now: Recipe, *, allow_change: bool = False) -> list[str]:
    """Refuse to go on with a run under a recipe that would have made another run; name all that differs at once.

    Args:
        before: the recipe that the run has had so far.
        now: the recipe that it is to go on with.
        allow_change: return what differs, a sentence for each key, instead of raising; otherwise the list is empty.

    Raises:
        RecipeError: keys differ that shape problems, answers or updates. The first is the error's, its text has all.
    """
    old, new = leaves(before.model_dump()), leaves(now.model_dump())
    differing = [
        key
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if allow_change:
        return [
            f"{key} = {as_override(new.get(key))}, where the run had {as_override(old.get(key))}" for key in differing
        ]
    if not differing:
        return []
    first, *others = differing
    also = "".join(f"; '{key}' = {new.get(key)!r}: it has {old.get(key)!r}" for key in others)
    known = all(key in old and key in new for key in differing)
    own = [shlex.quote(f"{key}={as_override(old[key])}") for key in differing] if known else ["the run's own recipe,"]
    own += [] if known else [str(Path(now.output_dir) / "recipe.yaml")]
    raise RecipeError(
        first,
        new.get(first),
        f"the run that is to be resumed has {old.get(first)!r}{also}",
        f"Resume with {' '.join(own)}, or start a new run in another output_dir.",
    )


def leaves(tree: object, path: str = "") -> dict[str, object]:
    """Every value below ``tree`` by its dotted key."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        items = dict(enumerate(tree)).items()
    else:
        return {path: tree}
    prefix = f"{path}." if path else ""
    return {key: value for name, item in items for key, value in leaves(item, f"{prefix}{name}").items()}


def as_override(value: object) -> str:
    """A value as an override has it."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value) is not None
    return str(value) if plain and str(value).lower() not in ("true", "false", "null") else json.dumps(value)
