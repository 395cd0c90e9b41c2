"""Which number format a model is kept in, and which it is computed with."""

import platform

import torch

SLOW_IN_BF16 = ("DEFAULT", "AVX2")  # x86 without AVX-512: bf16 products are emulated, a tenth as quick as fp32


def arithmetic_dtype(kept: torch.dtype, *, on_gpu: bool) -> torch.dtype:
    """What weights kept in ``kept`` are multiplied with here: bf16 becomes fp32 where the CPU has no bf16 products.

    Every bf16 value is an fp32 value, so the model is the same one; only its sums are rounded less.
    """
    emulated = not on_gpu and platform.machine() == "x86_64" and torch.backends.cpu.get_cpu_capability() in SLOW_IN_BF16
    return torch.float32 if kept is torch.bfloat16 and emulated else kept
