"""A Jinja file as a template: what its names stand for, and whether they are all there."""

from typing import Any

from grpo.datatypes import Problem
from grpo.errors import RecipeError
from grpo.prompts.chat import Switches, messages_of
from grpo.templates.jinja_file import OWN, JinjaFile


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
        self._check_switches(switches)
        if system_prompt is not None and "messages" not in self._file.variables:
            raise RecipeError(
                "system_prompt",
                system_prompt,
                f"{path} does not mention 'messages', the first of which a system prompt is",
                "Write the text into the file itself, and leave system_prompt out.",
            )

    def render(self, problem: Problem) -> str:
        """The prompt as text.

        Raises:
            RecipeError: an expression fails, or names what there is not; with file and line.
        """
        messages = messages_of(problem.question, self._system_prompt)
        own = {"question": problem.question, "messages": messages}
        return self._file.render({**problem.columns, **self._fixed, **own})

    def _check_switches(self, switches: Switches) -> None:
        for name, value in switches.items():
            if name not in self._file.variables or name in OWN:
                mentioned = ", ".join(sorted(self._file.variables)) or "no name at all"
                taken = "is a name that the renderer itself gives" if name in OWN else "is not in the template"
                raise RecipeError(
                    f"chat_template_kwargs.{name}",
                    value,
                    f"{taken}: {self._file.path} mentions {mentioned}",
                    "Use a name of its own in the file, or leave it out.",
                )
