"""A checkpoint: a folder that is whole or is none, as its manifest shows. ``checkpoint_store.py`` saves them.

    checkpoints/
      step-00000080/        a model folder (config.json, model.safetensors, tokenizer) that transformers and
        ...                 `vllm serve` load as it is
        trainer_state/      tensors.safetensors + state.json: what --resume needs beyond the weights
        manifest.json       size and sha256 of every file, and its own
      step-00000100/
      latest                the newest one's name, for people and scripts

A checkpoint is complete when its folder bears its final name and every file matches the manifest. ``latest`` is a
convenience: what counts is read from the folders themselves.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from grpo.errors import UserError

MANIFEST = "manifest.json"
LATEST = "latest"

_NAME = re.compile(r"step-(\d{8,})")


def newest_complete(folder: Path, report: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest checkpoint in ``folder`` whose every file has the size and hash of its manifest, or None.

    Writes nothing, so it may run beside the process that saves. Each damaged one it passes over is told to
    ``report`` in a sentence.
    """
    for _, path in steps_in(folder):
        fault = find_fault(path)
        if fault is None:
            return path
        report(f"checkpoint {path} is damaged and was passed over: {fault}")
    return None


def complete_steps(folder: Path) -> dict[int, Path]:
    """The checkpoints in ``folder`` that are whole, every byte verified, by step."""
    return {step: path for step, path in reversed(steps_in(folder)) if find_fault(path) is None}


def verify(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Each checkpoint of a run folder, or the one that ``folder`` is, with its fault, or None where it is whole.

    Raises:
        UserError: there is none.
    """
    own = [path for _, path in reversed(steps_in(folder / "checkpoints") or steps_in(folder))]
    if not own and not (folder / MANIFEST).is_file() and not _NAME.fullmatch(folder.name):
        raise UserError(f"'{folder}' is no checkpoint and holds none: name a run folder, or one of its checkpoints")
    for path in own or [folder]:
        yield path, find_fault(path)


def find_fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None. Sizes are compared first: they are cheap, and catch most."""
    try:
        content = (checkpoint / MANIFEST).read_bytes()
        manifest = json.loads(content)
        files = manifest["files"]
        for name, entry in files.items():
            size = (checkpoint / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes, the manifest says {entry['bytes']}"
        for name, entry in files.items():
            if _sha256(checkpoint / name) != entry["sha256"]:
                return f"{name} does not have the hash that the manifest says"
        del manifest["sha256"]
        if content != _sealed(manifest):
            return f"{MANIFEST} does not have its own hash"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} cannot be read"
    return None


def steps_in(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, newest first, whole or not."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)) and path.is_dir()]
    return sorted(((int(match[1]), path) for match, path in found), reverse=True)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_manifest(folder: Path, step: int, score: float | None) -> None:
    """Seal a folder whose files are all there."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in files_in(folder)
    }
    saved_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    content = {"step": step, "saved_at": saved_at, "score": score, "files": files}
    (folder / MANIFEST).write_bytes(_sealed(content))


def saved_score(checkpoint: Path) -> float | None:
    """By which the best checkpoint is chosen; None where there is none, or no manifest that can be read."""
    try:
        score: float | None = json.loads((checkpoint / MANIFEST).read_bytes()).get("score")
    except (OSError, ValueError, AttributeError):
        return None
    return score


def _sealed(content: Mapping[str, object]) -> bytes:
    """A manifest's bytes, the last line of which is the hash of all else in it."""
    own = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (json.dumps({**content, "sha256": own}, indent=1) + "\n").encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
