"""Conversions that every peer's table needs: schedules by name, and templates in a configuration."""

from typing import Any, get_args

from grpo.peers.mapping import NoCounterpartError
from grpo.recipe import Learner

SCHEDULES = get_args(Learner.model_fields["lr_scheduler_type"].annotation)


def schedule_of(name: str) -> str:
    """A schedule that has its name here too.

    Raises:
        NoCounterpartError: there is none of the name.
    """
    if name not in SCHEDULES:
        raise NoCounterpartError(f"learner.lr_scheduler_type is one of {', '.join(SCHEDULES)}; it stays at constant")
    return name


def inline_template(text: Any) -> None:
    """A chat template whose text stands in the configuration itself.

    Raises:
        NoCounterpartError: there is one.
    """
    if text:
        raise NoCounterpartError(
            "a template is a file here: put its text, unchanged, into NAME.jinja and set template=NAME.jinja; until "
            "then the tokenizer's own is used"
        )


def switches(given: Any) -> dict[str, Any] | None:
    """What a chat template's keyword arguments come to."""
    return {"chat_template_kwargs": dict(given)} if given else None
