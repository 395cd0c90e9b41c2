"""A template that goes by a name, for one tokenizer."""

from typing import Any

from grpo.datatypes import Problem
from grpo.errors import ModelError
from grpo.prompts.tokenizer import special_ids
from grpo.templates import NAMED, TURN_START


class NamedTemplate:
    """Writes a text of ``NAMED`` around the question.

    Raises:
        ModelError: the text is a chat in ChatML, which the tokenizer would read as plain letters.
    """

    def __init__(self, name: str, tokenizer: Any, model: str) -> None:
        self._template = NAMED[name]
        self.text = self._template.text
        if self._template.is_chatml and TURN_START not in special_ids(tokenizer):
            raise ModelError(
                f"template = {name!r}: it is made for models with ChatML, and the tokenizer of {model!r} has no token "
                f"{TURN_START}, so its marks would be read as plain letters. Choose another template, or a Qwen model"
            )

    def render(self, problem: Problem) -> str:
        """The prompt as text."""
        return self._template.render(problem.question)
