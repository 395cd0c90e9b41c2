"""The only code that turns text into tokens and tokens into text."""

from grpo.prompts.prompts import Prompts
from grpo.prompts.stops import Stop

__all__ = ["Prompts", "Stop"]
