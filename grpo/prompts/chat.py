"""The model's own chat template, with its switches and a system prompt."""

from collections.abc import Mapping
from typing import Any

import jinja2

from grpo.datatypes import Problem
from grpo.errors import ModelError, RecipeError
from grpo.prompts.tokenizer import TRIAL
from grpo.templates import CHAT, no_chat_template
from grpo.templates.jinja_text import variables_of

# what the renderer itself passes: no switches
_NOT_SWITCHES = ("messages", "add_generation_prompt", "tools", "documents")

Switches = Mapping[str, int | float | str | bool]


class ChatTemplate:
    """Renders one user message, behind the system prompt where there is one, and opens the assistant's turn.

    Raises:
        ModelError: the model has no chat template, one that is damaged, or one that has no place for ``system_prompt``.
        RecipeError: the template does not mention one of ``switches``, so setting it would change nothing.
    """

    def __init__(self, tokenizer: Any, model: str, *, system_prompt: str | None, switches: Switches) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._system_prompt, self._switches = system_prompt, dict(switches)
        self.text = self._read()
        self._check_switches()
        self._check_system_prompt()

    def render(self, problem: Problem) -> str:
        """The prompt as text, BOS and all, where the template writes one."""
        return self._prompt(problem.question)

    def turn_end(self) -> str:
        """What the template puts behind an assistant's answer; empty where it writes answers in a way of its own."""
        messages = [*messages_of("Question", self._system_prompt), {"role": "assistant", "content": TRIAL}]
        _, found, behind = self._apply(messages, add_generation_prompt=False).rpartition(TRIAL)
        return behind.lstrip() if found else ""

    def _prompt(self, question: str) -> str:
        return self._apply(messages_of(question, self._system_prompt), add_generation_prompt=True)

    def _read(self) -> str:
        if not self._tokenizer.chat_template:
            raise no_chat_template(self._model)
        try:
            text: str = self._tokenizer.get_chat_template()
        except ValueError:
            names = ", ".join(sorted(self._tokenizer.chat_template))
            raise ModelError(
                f"template = '{CHAT}': model {self._model!r} has several chat templates ({names}) and none of them is "
                "called 'default'. Copy one of them into a file and name that: template: mine.jinja"
            ) from None
        return text

    def _check_switches(self) -> None:
        if not self._switches:
            return
        known = sorted(name for name in self._variables() - {*_NOT_SWITCHES} if not name.endswith("_token"))
        for name, value in self._switches.items():
            if name not in known:
                raise RecipeError(
                    f"chat_template_kwargs.{name}",
                    value,
                    f"the chat template of {self._model} does not mention it, so it would change nothing. "
                    f"It mentions {', '.join(known) or 'no switch at all'}",
                    "Use one of those, or leave it out." if known else "Leave it out.",
                )

    def _variables(self) -> set[str]:
        try:
            return variables_of(self.text)
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                f"model {self._model!r}: its chat template is no Jinja (line {error.lineno}: {error.message}). "
                "Mend it, or copy it into a file and name that: template: mine.jinja"
            ) from None

    def _check_system_prompt(self) -> None:
        """A template may leave a system message out without a word."""
        if self._system_prompt is not None and self._system_prompt.strip() not in self._prompt(TRIAL):
            raise ModelError(
                f"system_prompt = {self._system_prompt!r}: the chat template of {self._model} leaves a system message "
                "out. Remove system_prompt, or put its text into a Jinja file of your own (template: mine.jinja)"
            )

    def _apply(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=add_generation_prompt, tokenize=False, **self._switches
            )
        except jinja2.TemplateError as error:
            what = "a system message (key system_prompt)" if self._system_prompt is not None else "a plain question"
            raise ModelError(
                f"template = '{CHAT}': the chat template of {self._model} refuses {what}: {str(error).rstrip('.')}. "
                f"{'Leave system_prompt out' if self._system_prompt is not None else 'Choose another template'}, "
                "or write a Jinja file of your own (template: mine.jinja)"
            ) from error
        return text


def messages_of(question: str, system_prompt: str | None) -> list[dict[str, str]]:
    """The conversation that a prompt is.

    >>> messages_of("2 + 2?", None)
    [{'role': 'user', 'content': '2 + 2?'}]
    """
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    return [*system, {"role": "user", "content": question}]
