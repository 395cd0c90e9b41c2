"""Problems to prompts, and answers to text, for one model and one template."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from grpo.datatypes import Problem, Prompt
from grpo.errors import DataError
from grpo.prompts.chat import ChatTemplate, Switches
from grpo.prompts.named_template import NamedTemplate
from grpo.prompts.own_template import OwnTemplate
from grpo.prompts.stops import Stop, find_stops
from grpo.prompts.tokenizer import TRIAL, load_tokenizer
from grpo.recipe import Recipe
from grpo.templates import CHAT, is_jinja


class Prompts:
    """Renders, encodes and decodes for one model and one template.

    ``end_token_ids`` are the tokens that end an answer: the end of text and, in a chat, the end of the assistant's
    turn; ``stops()`` says which is which.

    Args:
        model: a folder, a hub id, or a packaged model's name.
        template: a name of ``grpo.templates.NAMED``; ``chat``, the model's own; or the path of a Jinja file.
        max_prompt_length: tokens.
        system_prompt: the text of a system message, for ``chat`` and for a Jinja file.
        switches: what the recipe calls ``chat_template_kwargs``, such as ``enable_thinking``.

    Raises:
        ModelError: there is no such model, it has no usable tokenizer, or the template does not fit it.
        RecipeError: the Jinja file is missing or wrong, or has no use for a switch or for the system prompt.
    """

    def __init__(
        self,
        model: str,
        template: str,
        *,
        max_prompt_length: int,
        system_prompt: str | None = None,
        switches: Switches = MappingProxyType({}),
    ) -> None:
        self._tokenizer = load_tokenizer(model)
        self._max_prompt_length = max_prompt_length
        self._name = template
        self._template: ChatTemplate | OwnTemplate | NamedTemplate
        if template == CHAT:
            self._template = ChatTemplate(self._tokenizer, model, system_prompt=system_prompt, switches=switches)
        elif is_jinja(template):
            self._template = OwnTemplate(template, self._tokenizer, system_prompt=system_prompt, switches=switches)
        else:
            self._template = NamedTemplate(template, self._tokenizer, model)
        # a chat template writes every special token itself
        self._prefix = () if template == CHAT else self._tokens_before_a_fresh_text()
        self._stops = find_stops(self._tokenizer, model, self._template)
        self.end_token_ids = tuple(stop.token_id for stop in self._stops)

    @classmethod
    def of(cls, recipe: Recipe) -> "Prompts":
        """As a recipe says.

        Raises:
            UserError: as the class itself.
        """
        return cls(
            recipe.model,
            recipe.template,
            max_prompt_length=recipe.rollout.max_prompt_length,
            system_prompt=recipe.system_prompt,
            switches=recipe.chat_template_kwargs,
        )

    def stops(self) -> list[Stop]:
        """The tokens that end an answer, each with its text and why it does."""
        return list(self._stops)

    def fingerprint(self) -> dict[str, str]:
        """What a checkpoint remembers of the template: SHA-256 of its text, of which a recipe has only the name."""
        return {f"template {self._name}": hashlib.sha256(self._template.text.encode()).hexdigest()}

    def render(self, problem: Problem) -> str:
        """The prompt as text, without what the tokenizer itself puts before a text.

        Raises:
            RecipeError: the Jinja file names what this problem does not have, or one of its expressions fails.
        """
        return self._template.render(problem)

    def encode(self, problem: Problem, *, ordinal: int, attempt: int) -> Prompt:
        """The prompt as tokens; ``ordinal`` and ``attempt`` are its place in the problem stream.

        Raises:
            DataError: it is longer than ``max_prompt_length`` tokens, or has none.
        """
        token_ids = tuple(self.encode_text(self.render(problem)))
        if token_ids[: len(self._prefix)] != self._prefix:  # a text may begin with the BOS already
            token_ids = (*self._prefix, *token_ids)
        if not token_ids:
            raise DataError(
                f"problem {problem.problem_id}: its prompt is empty under template = {self._name!r}. Leave the problem "
                "out of the data, or mend the template"
            )
        if len(token_ids) > self._max_prompt_length:
            raise DataError(
                f"problem {problem.problem_id} is a prompt of {len(token_ids)} tokens, more than "
                f"rollout.max_prompt_length = {self._max_prompt_length}. Raise rollout.max_prompt_length "
                f"(the model's window must hold it and the answer), or leave the problem out of the data"
            )
        return Prompt(problem=problem, token_ids=token_ids, ordinal=ordinal, attempt=attempt)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer, tags and all; only the token that ended it is left out."""
        end = len(token_ids)
        while end and int(token_ids[end - 1]) in self.end_token_ids:
            end -= 1
        ids = [int(token_id) for token_id in token_ids[:end]]
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def encode_text(self, text: str) -> list[int]:
        """Tokens of a text that goes on after others, such as a tool's output."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token by itself, special ones by name; of a part of a character, the vocabulary's entry."""
        found = [self._tokenizer.decode([int(token_id)], clean_up_tokenization_spaces=False) for token_id in token_ids]
        names: list[str] = self._tokenizer.convert_ids_to_tokens([int(token_id) for token_id in token_ids])
        return [name if "\ufffd" in piece or not piece else piece for piece, name in zip(found, names, strict=True)]

    def save(self, folder: Path) -> None:
        """Write the tokenizer beside a checkpoint's weights."""
        self._tokenizer.save_pretrained(folder)

    def _tokens_before_a_fresh_text(self) -> tuple[int, ...]:
        """A BOS where the tokenizer adds one; never the EOS that some add behind, which would end the prompt."""
        bare = self.encode_text(TRIAL)
        whole: list[int] = self._tokenizer.encode(TRIAL, add_special_tokens=True)
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return tuple(whole[:start])
