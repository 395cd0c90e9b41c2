"""The environment that Jinja texts are read in: the dialect of the models' own chat templates, and nothing random."""

import json
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


def environment() -> ImmutableSandboxedEnvironment:
    """Sandboxed; a name that nothing defines is an error where it is used.

    Line breaks after a block go and ``tojson`` escapes no HTML, as in transformers, so that a chat template can be
    copied into a file. What would give another prompt on another day or at another call is not there: the filter
    ``random``, ``lipsum``, and transformers' ``strftime_now``, without which chat templates fall back to a fixed date.
    """
    env = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[LoopControlExtension, _Generation],
    )
    env.globals = {name: env.globals[name] for name in ("range", "dict", "namespace", "cycler", "joiner")}
    env.globals["raise_exception"] = _raise
    env.filters["tojson"] = _to_json
    del env.filters["random"]
    return env


def variables_of(text: str) -> set[str]:
    """The names that a Jinja text takes from outside.

    >>> sorted(variables_of("{% for m in messages %}{{ m.content }}{% endfor %}{{ now }}"))
    ['messages', 'now']

    Raises:
        jinja2.TemplateSyntaxError: it is no Jinja.
    """
    env = environment()
    return meta.find_undeclared_variables(env.parse(text)) - {"strftime_now"}


def _raise(message: str) -> None:
    """What chat templates call to refuse a message."""
    raise jinja2.TemplateError(message)


def _to_json(value: object, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's words in some chat templates; for rendering it is nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)
