"""How much memory a run needs, process by process and part by part, from the recipe and the model's shape.

Imports no torch. Sizes are bytes; GB is 10^9. Parameter state is exact; activations follow from what each operation
keeps for the backward pass; what a formula calls "about" is an estimate. docs/scaling.md says how far off it was.
"""

from grpo.memory.account import Account, Needs, Place, account_for, needs_of
from grpo.memory.device import GPU_BYTES, KNOWN_GPUS, Device, device_of, machine_bytes, parse_gpus
from grpo.memory.learner import LOGITS_AT_ONCE
from grpo.memory.part import GB, Part
from grpo.memory.savings import largest_row_tokens, what_must_give

__all__ = [
    "GB",
    "GPU_BYTES",
    "KNOWN_GPUS",
    "LOGITS_AT_ONCE",
    "Account",
    "Device",
    "Needs",
    "Part",
    "Place",
    "account_for",
    "device_of",
    "largest_row_tokens",
    "machine_bytes",
    "needs_of",
    "parse_gpus",
    "what_must_give",
]
