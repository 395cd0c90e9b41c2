"""Where an answer ends: the tokens, and why each of them ends it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from grpo.errors import ModelError
from grpo.models import resolve_model
from grpo.prompts.chat import ChatTemplate
from grpo.prompts.named_template import NamedTemplate
from grpo.prompts.own_template import OwnTemplate
from grpo.prompts.tokenizer import special_ids
from grpo.templates import TURN_ENDS

# The second is what transformers and vLLM fall back on where a checkpoint lacks the first.
_CONFIGS = ("generation_config.json", "config.json")


class Stop(NamedTuple):
    token_id: int
    text: str
    why: str


def find_stops(tokenizer: Any, model: str, template: ChatTemplate | OwnTemplate | NamedTemplate) -> list[Stop]:
    """The tokens that end an answer, each once, the tokenizer's own end first.

    A base model with a chat template is the reason to look beyond the tokenizer: it ends texts with
    ``<|endoftext|>``, and a chat's turns end with ``<|im_end|>``. The checkpoint's own settings count for its chat
    template and for a file of one's own; a template by name is a plain text, and ends as texts do.

    Raises:
        ModelError: there is no such token, so no answer could end; or a configuration names one that there is not.
    """
    found = list(_of_tokenizer(tokenizer))
    if not isinstance(template, NamedTemplate):
        found += _of_configuration(tokenizer, model)
    if isinstance(template, ChatTemplate):
        found += _of_chat(tokenizer, template.turn_end())
    else:
        found += _of_text(tokenizer, template.text)
    if not found:
        raise ModelError(
            f"model {model!r}: its tokenizer has no end-of-text token, so no answer could end. "
            "Set 'eos_token' in its tokenizer_config.json"
        )
    by_id: dict[int, Stop] = {}
    for stop in found:
        by_id.setdefault(stop.token_id, stop)  # the first reason is told
    return list(by_id.values())


def _of_tokenizer(tokenizer: Any) -> Iterator[Stop]:
    if tokenizer.eos_token_id is not None:
        yield Stop(tokenizer.eos_token_id, tokenizer.eos_token, "the tokenizer's end of text")


def _of_configuration(tokenizer: Any, model: str) -> Iterator[Stop]:
    name, token_ids = _configured_ends(model)
    for token_id in token_ids:
        if not 0 <= token_id < len(tokenizer):
            raise ModelError(
                f"model {model!r}: its {name} has eos_token_id {token_id}, and its tokenizer has tokens 0 to "
                f"{len(tokenizer) - 1}. Mend eos_token_id in that file"
            )
        yield Stop(token_id, tokenizer.convert_ids_to_tokens(token_id), f"eos_token_id of {name}")


def _configured_ends(model: str) -> tuple[str, list[int]]:
    """The file that says it, and what it says: one id, a list, or nothing."""
    from transformers.utils.hub import cached_file

    for name in _CONFIGS:
        path = cached_file(
            resolve_model(model),
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        ends = None if path is None else _read(Path(path), model).get("eos_token_id")
        if ends is not None:
            return name, ends if isinstance(ends, list) else [ends]
    return _CONFIGS[0], []


def _read(path: Path, model: str) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"model = {model!r}: its {path.name} is not JSON ({error}). Copy it again") from None
    if not isinstance(settings, dict):
        raise ModelError(f"model = {model!r}: its {path.name} holds no mapping of names to values. Copy it again")
    return settings


def _of_chat(tokenizer: Any, turn_end: str) -> Iterator[Stop]:
    """A special token behind the answer; what no special token marks cannot be told from an answer's own words."""
    special = special_ids(tokenizer)
    behind = next((text for text in sorted(special, key=len, reverse=True) if turn_end.startswith(text)), None)
    if behind is not None:
        yield Stop(special[behind], behind, "ends the assistant's turn in the chat template")


def _of_text(tokenizer: Any, text: str) -> Iterator[Stop]:
    """A turn's end that the template writes out itself."""
    special = special_ids(tokenizer)
    for mark in TURN_ENDS:
        if mark in text and mark in special:
            yield Stop(special[mark], mark, "ends a turn in the template")
