"""A template of one's own: a Jinja file, rendered with the question, the row's columns and the messages."""

import difflib
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2
from jinja2 import nodes

from grpo.errors import RecipeError
from grpo.templates.jinja_text import environment, variables_of

# besides the row's columns, which they take precedence over
OWN = ("question", "messages", "bos_token", "eos_token", "add_generation_prompt")
_HIDDEN = {"tools": None, "documents": None}  # chat templates ask whether there are any
_OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
# what an expression may come to on values of the wrong kind
_FAILURES = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


class JinjaFile:
    """A compiled file.

    Raises:
        RecipeError: it is missing, no UTF-8 text, no Jinja, or made of several files.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = _read(path)
        env = environment()
        try:
            tree = env.parse(self.text, filename=path)
            self.variables = variables_of(self.text)
            code = env.compile(tree, filename=path)
        except jinja2.TemplateSyntaxError as error:
            reason = f"is no Jinja: {error.message}"
            raise RecipeError("template", path, f"line {error.lineno} {reason}", "Mend that line.") from None
        for node in tree.find_all(_OTHER_FILES):
            raise RecipeError(
                "template",
                path,
                f"line {node.lineno} takes in another file, which a checkpoint would not remember",
                "Write all of the template into one file.",
            )
        self._template = jinja2.Template.from_code(env, code, dict(env.globals))

    def check_uses(self, switches: Mapping[str, object], system_prompt: str | None) -> None:
        """Refuse what the file would leave unused.

        Raises:
            RecipeError: it has no place for ``system_prompt``, or does not mention one of ``switches``.
        """
        for name, value in switches.items():
            if name not in self.variables or name in OWN:
                mentioned = ", ".join(sorted(self.variables)) or "no name at all"
                taken = "is a name that the renderer itself gives" if name in OWN else "is not in the template"
                raise RecipeError(
                    f"chat_template_kwargs.{name}",
                    value,
                    f"{taken}: {self.path} mentions {mentioned}",
                    "Use a name of its own in the file, or leave it out.",
                )
        if system_prompt is not None and "messages" not in self.variables:
            raise RecipeError(
                "system_prompt",
                system_prompt,
                f"{self.path} does not mention 'messages', the first of which a system prompt is",
                "Write the text into the file itself, and leave system_prompt out.",
            )

    def render(self, variables: Mapping[str, object]) -> str:
        """The prompt; ``variables`` are by name what there is, of which those in ``OWN`` are always there.

        Raises:
            RecipeError: the file uses a name that there is not, or an expression fails; with the line.
        """
        try:
            return self._template.render({**_HIDDEN, **variables})
        except _FAILURES as error:
            line = self._line_of(error)
            said = str(error).strip() or type(error).__name__
            unknown = re.fullmatch(r"'(\w+)' is undefined", said)
            fix = "Mend that line." if unknown is None else _nearest(unknown[1], variables)
            raise RecipeError("template", self.path, f"line {line}: {said}", fix) from error

    def _line_of(self, error: BaseException) -> int:
        """Jinja lays the file's own lines over the traceback."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self.path and frame.lineno]
        return lines[-1] if lines else 1


def _nearest(name: str, variables: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(variables), n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"There are {', '.join(_in_order(variables))}.{hint}"


def _in_order(variables: Mapping[str, object]) -> Iterator[str]:
    yield from (name for name in OWN if name in variables)
    yield from sorted(name for name in variables if name not in OWN)


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError("template", path, f"is not UTF-8 text (byte {error.start})", "Save it as UTF-8.") from None
    except OSError as error:
        raise RecipeError("template", path, f"cannot be read: {error.strerror}", "Give a file that exists.") from None
