"""What a run is planned for: GPUs of a kind, or this machine's own memory."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from grpo.errors import UserError
from grpo.memory.part import GB
from grpo.recipe import Recipe

# Memory by the vendors' data sheets, in GB. Counted as 10^9 bytes each, although most cards have 2^30: the 7% between
# the two is what the caching allocator loses to fragments.
KNOWN_GPUS = {
    "H100": 80,
    "H200": 141,
    "B200": 192,
    "A100-40": 40,
    "A100-80": 80,
    "L40S": 48,
    "L4": 24,
    "RTX4090": 24,
    "MI300X": 192,
}
GPU_BYTES = 80 * GB  # of a GPU that nobody named


@dataclass(frozen=True, slots=True)
class Device:
    """``num_gpus`` GPUs of ``num_bytes`` each; or, with 0 of them, a machine whose processes share ``num_bytes``."""

    name: str
    num_bytes: float
    num_gpus: int

    @property
    def is_gpu(self) -> bool:
        return self.num_gpus > 0


def parse_gpus(text: str) -> Device:
    """What ``--gpus`` names: ``8xH100``, ``8x96GB``, ``L4`` for one, or ``cpu``.

    >>> parse_gpus("2xA100-40")
    Device(name='A100-40', num_bytes=40000000000.0, num_gpus=2)

    Raises:
        UserError: the text has another form, or names a GPU that is not known here.
    """
    if text.lower() == "cpu":
        return Device("this machine", machine_bytes(), 0)
    count, _, kind = text.partition("x") if re.match(r"\d+x", text) else ("1", "", text)
    size = re.fullmatch(r"(\d+(?:\.\d+)?)GB", kind, re.IGNORECASE)
    names = {name.lower(): name for name in KNOWN_GPUS}
    if int(count) and size and float(size[1]):
        return Device(f"{float(size[1]):g} GB GPU", float(size[1]) * GB, int(count))
    if int(count) and kind.lower() in names:
        name = names[kind.lower()]
        return Device(name, KNOWN_GPUS[name] * GB, int(count))
    raise UserError(
        f"--gpus {text!r} must be a number of GPUs and their kind, one of {', '.join(KNOWN_GPUS)}, or their memory. "
        "Write 8xH100, 8x96GB for a kind that is not listed, or cpu"
    )


def device_of(recipe: Recipe) -> Device:
    """What the recipe itself asks for: its ``num_gpus`` GPUs of 80 GB, or this machine."""
    if recipe.num_gpus:
        return Device(f"{GPU_BYTES / GB:.0f} GB GPU", GPU_BYTES, recipe.num_gpus)
    return Device("this machine", machine_bytes(), 0)


def machine_bytes() -> float:
    """Memory of this machine, or of its control group where that is less."""
    physical = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(physical, float(text)) if text.isdecimal() else physical
