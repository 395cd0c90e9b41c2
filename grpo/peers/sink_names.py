"""Where a peer sends its metrics, as ``log.report_to``."""

from collections.abc import Iterable
from typing import Any, get_args

from grpo.peers.mapping import NoCounterpartError, Noted
from grpo.recipe import Log

SINKS: tuple[str, ...] = get_args(get_args(Log.model_fields["report_to"].annotation)[0])
ALL = "all is whatever is installed there; here each is named."  # transformers' word


def sinks(value: Any, *, elsewhere: Iterable[str]) -> Noted:
    """Those of ``value``, a name or a list of names, that there are here, and a note on the others.

    Args:
        elsewhere: names for what a run always has: the terminal, a file, nothing.

    >>> found = sinks(["console", "wandb", "mlflow"], elsewhere=["console"])
    >>> found.value, found.note
    (['wandb'], 'there is no mlflow here.')

    Raises:
        NoCounterpartError: it names some, and none of them is here.
    """
    names = [str(name) for name in ([value] if isinstance(value, str) else value or [])]
    if "all" in names:
        return Noted(["wandb"], ALL)
    known = [name for name in dict.fromkeys(names) if name in SINKS]
    others = [name for name in names if name not in (*SINKS, *elsewhere)]
    if others and not known:
        raise NoCounterpartError(f"metrics go to metrics.jsonl, {', '.join(SINKS)}; not to {', '.join(others)}")
    return Noted(known, f"there is no {', '.join(others)} here." if others else "")
