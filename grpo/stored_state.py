"""A trainer's state on the disk: tensors of any dtype and JSON, back bit for bit.

trainer_state/
  tensors.safetensors           and more of them, numbered, where one would grow past FILE_BYTES
  state.json
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from grpo.buckets import buckets
from grpo.errors import CheckpointError

if TYPE_CHECKING:
    import torch

TENSORS = "tensors.safetensors"
FILE_BYTES = 1 << 30
STATE = "state.json"


def save_state(folder: Path, tensors: Iterable[tuple[str, "torch.Tensor"]], state: dict[str, Any]) -> None:
    """Write tensors of any dtype (safetensors) and a JSON state; ``load_state`` gives both back bit for bit.

    Tensors may come from a generator: those of one file, about 1 GiB, are held at a time.

    Raises:
        TypeError: the state holds what JSON would change (a tuple, a key that is not text, an array).
    """
    from safetensors.torch import save_file

    _check_survives_json(state, "state")
    folder.mkdir(parents=True, exist_ok=True)
    files = buckets(_unshared(tensors), FILE_BYTES)
    first = next(files, [])  # there is one file, though it be empty
    for path, bucket in zip(_tensor_files(folder), itertools.chain([first], files), strict=False):
        save_file(dict(bucket), path)
        bucket.clear()  # before the next is gathered
    (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")


class StoredTensors(Mapping[str, "torch.Tensor"]):
    """What ``save_state`` wrote, each tensor read when it is asked for; it travels to other processes as file names.

    Raises:
        OSError, SafetensorError: a file is missing or is none.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._files: dict[str, Path] = {}
        for number, path in enumerate(_tensor_files(folder)):
            if number and not path.exists():
                break
            with safe_open(path, framework="pt") as file:
                self._files |= dict.fromkeys(file.keys(), path)

    def __getitem__(self, name: str) -> "torch.Tensor":
        from safetensors import safe_open

        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _tensor_files(folder: Path) -> Iterator[Path]:
    yield folder / TENSORS
    for number in itertools.count(2):
        yield folder / TENSORS.replace(".", f"-{number:05}.", 1)


def load_state(folder: Path) -> tuple[Mapping[str, "torch.Tensor"], dict[str, Any]]:
    """What ``save_state`` wrote; tensors on the CPU.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    try:
        tensors = StoredTensors(folder)
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"trainer state in {folder} cannot be read: {error}. Resume from another checkpoint of the run"
        ) from error
    return tensors, state


def _unshared(tensors: Iterable[tuple[str, "torch.Tensor"]]) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Contiguous CPU tensors of which no two share memory, as safetensors asks."""
    seen: set[int] = set()
    for name, tensor in tensors:
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != own.nbytes:
            own = own.clone()
        seen.add(storage.data_ptr())
        yield name, own


def _check_survives_json(value: object, place: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place}: the key {key!r} would become text in JSON")
            _check_survives_json(item, f"{place}[{key!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_survives_json(item, f"{place}[{index}]")
    elif type(value) not in (str, int, float, bool, type(None)):
        raise TypeError(f"{place}: a {type(value).__name__} would not come back from JSON as it is")
