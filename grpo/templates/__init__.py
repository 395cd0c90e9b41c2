"""What is written around a question: texts by name, and Jinja files. Imports no torch, and Jinja only for a file."""

from grpo.templates.named import (
    CHAT,
    NAMED,
    OPENING,
    TURN_ENDS,
    TURN_START,
    Template,
    is_jinja,
    is_template,
    no_chat_template,
)

__all__ = [
    "CHAT",
    "NAMED",
    "OPENING",
    "TURN_ENDS",
    "TURN_START",
    "Template",
    "is_jinja",
    "is_template",
    "no_chat_template",
]
