"""The template's key and those beside it: names that there are, and switches where something takes them."""

import difflib
from pathlib import Path

from grpo.errors import RecipeError
from grpo.recipe.schema import Recipe
from grpo.templates import CHAT, NAMED, OPENING, is_jinja, is_template


def check_template(recipe: Recipe) -> None:
    """Refuse a template that there is not, and keys that it has no use for.

    Raises:
        RecipeError: the first mistake found.
    """
    _check_name(recipe.template)
    _check_beside(recipe)
    _check_opening(recipe)


def _check_name(template: str) -> None:
    names = (*NAMED, CHAT)
    if not is_template(template):
        near = difflib.get_close_matches(template, names, n=1)
        hint = f"The nearest is '{near[0]}'." if near else "A file of your own goes by its path, as in mine.jinja."
        allowed = f"must be one of {', '.join(names)}, or the path of a Jinja file (*.jinja)"
        raise RecipeError("template", template, allowed, hint)
    if is_jinja(template) and not Path(template).expanduser().is_file():
        fix = "Paths are relative to the working folder."
        raise RecipeError("template", template, f"there is no file {template}", fix)


def _check_beside(recipe: Recipe) -> None:
    if recipe.template == CHAT or is_jinja(recipe.template):
        return
    for key, value in (
        ("system_prompt", recipe.system_prompt),
        ("chat_template_kwargs", dict(recipe.chat_template_kwargs) or None),
    ):
        if value is not None:
            raise RecipeError(
                key,
                value,
                f"has no place in template = {recipe.template}, which is a fixed text",
                f"Leave it out, or set template=chat, or write a Jinja file (template={recipe.template}.jinja).",
            )


def _check_opening(recipe: Recipe) -> None:
    """Whether the format reward knows where an answer begins: otherwise no answer, or every good one, loses by it."""
    template = NAMED.get(recipe.template)
    if template is None:
        return
    for index, reward in enumerate(recipe.rewards):
        opened = reward.args.get("opened", False)
        if reward.name != "format" or reward.fn is not None or opened is template.opens_thinking:
            continue
        begins = "ends" if template.opens_thinking else "does not end"
        fix = f"Set rewards.{index}.args.opened={'true' if template.opens_thinking else 'false'}."
        key = f"rewards.{index}.args.opened"
        raise RecipeError(key, opened, f"template = {recipe.template} {begins} inside an open {OPENING}", fix)
