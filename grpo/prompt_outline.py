"""What `grpo check` says of prompts, from the files that are here: no tokenizer is loaded. Imports no torch."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grpo.errors import ModelError
from grpo.model_shape import folder_of
from grpo.models import resolve_model
from grpo.recipe import Recipe
from grpo.templates import CHAT, NAMED, OPENING, is_jinja, no_chat_template

_INSTRUCT = re.compile(r"(?i)(?:^|[-_])(?:instruct|chat|it)(?:$|[-_.])")  # in the last part of a model's name


def prompt_lines(recipe: Recipe) -> Iterator[str]:
    """The template, and what ends an answer.

    Raises:
        RecipeError: the template's file is no Jinja, or has no use for a switch or for the system prompt.
        ModelError: a configuration of the model's is not JSON, or ``template: chat`` is of a model without one.
    """
    yield f"template: {_template_in_words(recipe)}"
    ends = list(_ends(recipe))
    yield f"an answer ends at {', '.join(ends)}" if ends else "what ends an answer stands with the model's tokenizer"
    yield "`grpo data RECIPE` shows prompts and stop tokens as the engine will see them"


def prompt_notes(recipe: Recipe) -> Iterator[str]:
    """What is likely a mistake, and need not be one."""
    template, folder = NAMED.get(recipe.template), folder_of(recipe.model)
    if template is None or template.is_chatml or folder is None or not _INSTRUCT.search(Path(recipe.model).name):
        return
    if _has_chat_template(folder):
        yield (
            f"template={recipe.template} is a text for base models, and {recipe.model} was made for chat by its name: "
            "template=chat is what it knows"
        )


def _template_in_words(recipe: Recipe) -> str:
    template = recipe.template
    if is_jinja(template):
        from grpo.templates.jinja_file import JinjaFile  # only here: Jinja's import takes 0.1 s

        file = JinjaFile(template)
        file.check_uses(recipe.chat_template_kwargs, recipe.system_prompt)
        return f"{template}, a file that mentions {', '.join(sorted(file.variables)) or 'no name'}"
    if template == CHAT:
        folder = Path(resolve_model(recipe.model))  # not the hub's cache, which may hold a part of a model
        if (folder / "tokenizer_config.json").is_file() and not _has_chat_template(folder):
            raise no_chat_template(recipe.model)
        return "chat, the model's own"
    named = NAMED[template]
    return f"{template}, {named.source}" + (f"; an answer begins inside {OPENING}" if named.opens_thinking else "")


def _has_chat_template(folder: Path) -> bool:
    """In any of the places that transformers knows."""
    files = [folder / "chat_template.jinja", *folder.glob("additional_chat_templates/*.jinja")]
    return "chat_template" in _settings(folder, "tokenizer_config.json") or any(file.is_file() for file in files)


def _ends(recipe: Recipe) -> Iterator[str]:
    folder = folder_of(recipe.model)
    if folder is not None:
        tokenizer = _settings(folder, "tokenizer_config.json")
        eos = tokenizer.get("eos_token")
        eos = eos.get("content") if isinstance(eos, dict) else eos
        if eos is not None:
            yield f"{eos} (the tokenizer's end of text)"
        if recipe.template == CHAT or is_jinja(recipe.template):
            yield from _configured(folder, tokenizer)
    if recipe.template == CHAT:
        yield "what the chat template puts behind an answer"
    yield from (f"{text!r} (rollout.stop)" for text in recipe.rollout.stop)


def _configured(folder: Path, tokenizer: dict[str, Any]) -> Iterator[str]:
    ends = _settings(folder, "generation_config.json").get("eos_token_id", [])
    texts = tokenizer.get("added_tokens_decoder", {})
    for token_id in ends if isinstance(ends, list) else [ends]:
        text = texts.get(str(token_id), {}).get("content")
        yield f"{text or f'token {token_id}'} (generation_config.json)"


def _settings(folder: Path, name: str) -> dict[str, Any]:
    try:
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"{folder / name} is not JSON ({error}). Copy it again") from None
    return settings if isinstance(settings, dict) else {}
