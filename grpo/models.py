"""Which checkpoint a model's name means: one that comes with the package, a folder, or a hub id."""

import json
from pathlib import Path

from grpo.errors import ModelError

TINY_BASE = "tiny-base"
_PACKAGED = {  # by name, which is also what `make` builds it by
    TINY_BASE: Path(__file__).parent / "tiny_base" / "checkpoint",
    "tiny-tool": Path(__file__).parent / "tiny_base" / "tool_checkpoint",
    "tiny-countdown": Path(__file__).parent / "tiny_base" / "countdown_checkpoint",
}


def resolve_model(name: str) -> str:
    """The folder of a local checkpoint, or ``name`` itself where it can only be a hub id.

    >>> resolve_model("Qwen/Qwen3-0.6B-Base")
    'Qwen/Qwen3-0.6B-Base'

    Raises:
        ModelError: the name is a path at which there is no checkpoint.
    """
    if name in _PACKAGED:
        if not (_PACKAGED[name] / "config.json").is_file():
            raise ModelError(
                f"model = '{name}': this installation lacks its checkpoint ({_PACKAGED[name]}). "
                f"Install the package again, or make it with: make {name}"
            )
        return str(_PACKAGED[name])
    path = Path(name).expanduser()
    if name and path.exists():
        return str(_checked_folder(path, name))
    if _can_only_be_a_path(name):
        raise ModelError(
            f"model = {name!r}: there is no such folder. "
            f"Give the folder of a checkpoint, a hub id (owner/name) or '{TINY_BASE}'"
        )
    return name


def _can_only_be_a_path(name: str) -> bool:
    parent = Path(name).parent
    in_a_folder_here = parent != Path(".") and parent.is_dir()
    return not name or name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or in_a_folder_here


def _checked_folder(path: Path, name: str) -> Path:
    config = path / "config.json"
    if not config.is_file():
        found = "a folder without config.json" if path.is_dir() else "a file, not a folder"
        raise ModelError(
            f"model = {name!r}: {found}, so no checkpoint. Give the folder that holds config.json, the weights "
            "(*.safetensors) and the tokenizer"
        )
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"model = {name!r}: its config.json is not JSON ({error}). Copy it again") from None
    if not isinstance(settings, dict) or "model_type" not in settings:
        raise ModelError(
            f"model = {name!r}: its config.json has no 'model_type', so it is no transformers checkpoint. "
            "Name a folder that save_pretrained wrote"
        )
    return path
