"""What a peer's configuration file holds: YAML or JSON, as a mapping of keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo.errors import UserError
from grpo.recipe import parse_yaml


def read_text(path: Path) -> str:
    """Raises UserError where there is no such text file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no configuration at {path}. Name a file that exists") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder. Name a configuration file in it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}). Name a configuration file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_mapping(path: Path, *, of: str) -> dict[str, Any]:
    """The keys of a YAML or JSON file.

    Args:
        of: whose configuration it should be, for the message.

    Raises:
        UserError: it is missing, not YAML, or holds no mapping of keys.
    """
    tree = parse_yaml(read_text(path), str(path))
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(f"{path} holds no mapping of keys. Name a configuration of {of}")
    return tree


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys.

    >>> flattened({"data": {"train_batch_size": 8, "sampler": {}}})
    {'data.train_batch_size': 8, 'data.sampler': {}}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
