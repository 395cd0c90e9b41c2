"""A Jinja file as a template: what its names stand for, and whether they are all there."""

from typing import Any

from grpo.datatypes import Problem
from grpo.prompts.chat import Switches, messages_of
from grpo.templates.jinja_file import JinjaFile


class OwnTemplate:
    """Renders a file with ``question``, the row's columns, ``messages``, the tokenizer's BOS and EOS, and switches.

    Raises:
        RecipeError: the file is missing or no Jinja; it has no place for ``system_prompt``, or does not mention one
            of ``switches``.
    """

    def __init__(self, path: str, tokenizer: Any, *, system_prompt: str | None, switches: Switches) -> None:
        self._file = JinjaFile(path)
        self._system_prompt = system_prompt
        self.text = self._file.text
        # A tokenizer without a BOS gives the empty text, as in transformers: the name is there all the same.
        tokens = {"bos_token": tokenizer.bos_token or "", "eos_token": tokenizer.eos_token or ""}
        self._fixed = {**switches, **tokens, "add_generation_prompt": True}
        self._file.check_uses(switches, system_prompt)

    def render(self, problem: Problem) -> str:
        """The prompt as text.

        Raises:
            RecipeError: an expression fails, or names what there is not; with file and line.
        """
        messages = messages_of(problem.question, self._system_prompt)
        own = {"question": problem.question, "messages": messages}
        return self._file.render({**problem.columns, **self._fixed, **own})
