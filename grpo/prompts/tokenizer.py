"""A model's tokenizer, tried before it is used."""

from typing import Any

from grpo.errors import ModelError
from grpo.models import resolve_model

TRIAL = "17 + 25 = 42"  # any usable tokenizer can write and read this


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a folder or a hub id.

    Raises:
        ModelError: there is none, or it cannot write and read a plain text.
    """
    from transformers import AutoTokenizer

    path = resolve_model(model)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"model = {model!r}: its tokenizer cannot be loaded, from a folder or from the hub: {reason}. "
            "Give the folder of a checkpoint, a hub id (owner/name) that can be reached, or 'tiny-base'"
        ) from None
    # A folder without tokenizer files gives, silently, a tokenizer that knows one token.
    echo = tokenizer.decode(tokenizer.encode(TRIAL, add_special_tokens=False))
    if echo.replace(" ", "") != TRIAL.replace(" ", ""):
        raise ModelError(
            f"model = {model!r}: its tokenizer turns {TRIAL!r} into {echo!r}, so its files are missing or damaged. "
            "Put tokenizer.json and tokenizer_config.json into the checkpoint's folder"
        )
    return tokenizer


def special_ids(tokenizer: Any) -> dict[str, int]:
    """The tokens that stand beside the vocabulary, such as ``<|im_end|>``: id by text."""
    return {str(token): token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
