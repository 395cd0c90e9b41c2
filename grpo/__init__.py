"""Reinforcement learning of reasoning from a base language model. docs/python.md has examples.

``import grpo`` loads nothing; each name below is loaded when it is first used, and torch when a run starts.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grpo.api import evaluate, train
    from grpo.recipe import Recipe, load_recipe
    from grpo.run import Run, load_run

__all__ = ["Recipe", "Run", "evaluate", "load_recipe", "load_run", "train"]

_HOME = {
    "Recipe": "grpo.recipe",
    "Run": "grpo.run",
    "evaluate": "grpo.api",
    "load_recipe": "grpo.recipe",
    "load_run": "grpo.run",
    "train": "grpo.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'grpo' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
