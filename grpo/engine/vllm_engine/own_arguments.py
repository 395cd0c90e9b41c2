"""A recipe's ``engine.args``, laid over the arguments that the engine is made from."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import vllm
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs

from grpo.errors import RecipeError


def engine_config(arguments: Mapping[str, Any], own: Mapping[str, Any]) -> VllmConfig:
    """vLLM's configuration from the engine's arguments with the recipe's own over them.

    Raises:
        RecipeError: vLLM has no argument of that name, or refuses a value of the recipe's.
    """
    known = [field.name for field in dataclasses.fields(EngineArgs) if not field.name.startswith("_")]
    for name, value in own.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"The nearest is '{near[0]}'." if near else "Its documentation lists them under engine arguments."
            raise RecipeError(f"engine.args.{name}", value, f"vLLM {vllm.__version__} has no such argument", hint)
    try:
        return EngineArgs(**{**arguments, **own}).create_engine_config()
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # what its checks raise of a value, by argument
        if not own:
            raise
        reason = " ".join(str(error).split())
        raise RecipeError(
            "engine.args", dict(own), f"vLLM refused them: {reason}", "Mend or leave out the one."
        ) from error
