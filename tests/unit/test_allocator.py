"""Large tensors are mapped one by one, or kept with the process, as asked; unless the user has chosen otherwise."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping

import pytest

from grpo import allocator
from grpo.allocator import LARGE_BYTES
from grpo.memory import learner as planned

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its own ways")
COUNT = """
import ctypes

import torch

from grpo.allocator import give_back_large_tensors, keep_large_tensors

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Account(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Account
# what glibc learns from this: to keep such sizes on the heap
torch.empty(24 << 20, dtype=torch.uint8)
{call}
before = mallinfo2().hblks
tensors = [torch.empty(size, dtype=torch.uint8) for size in ({size}, {size}, {size} // 2)]
print(mallinfo2().hblks - before)
"""


def num_mapped(environment: Mapping[str, str], call: str = "give_back_large_tensors()", size: int = LARGE_BYTES) -> int:
    """Of two tensors of ``size`` bytes and one of half of it, in a process that made the call."""
    command = [sys.executable, "-c", COUNT.format(call=call, size=size)]
    return int(subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True).stdout)


@needs_glibc
def test_large_tensors_are_mapped_and_smaller_ones_are_not() -> None:
    assert num_mapped({}) == 2


@needs_glibc
def test_tensors_that_are_kept_are_never_mapped_by_themselves() -> None:
    assert num_mapped({}, "keep_large_tensors()", size=64 << 20) == 0
    assert num_mapped({}, "", size=64 << 20) == 3, "without it they are"


@needs_glibc
def test_a_threshold_of_the_users_own_stays() -> None:
    assert num_mapped({"MALLOC_MMAP_THRESHOLD_": str(16 << 20)}) == 0
    assert num_mapped({"MALLOC_MMAP_THRESHOLD_": str(LARGE_BYTES)}, "keep_large_tensors()") == 2


def test_the_plan_counts_with_the_same_size() -> None:
    assert planned.LARGE_BYTES == allocator.LARGE_BYTES
