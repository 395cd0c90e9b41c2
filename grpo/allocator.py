"""How glibc's malloc treats large tensors on a CPU. Does nothing where the C library is another."""

import ctypes
import os

LARGE_BYTES = 1 << 20  # what is smaller stays on the heap, where it is found again quickly
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_TRIM_BYTES = 1 << 28
_NO_TENSOR_BYTES, _NO_HEAP_BYTES = 1 << 30, (1 << 31) - 1  # mallopt takes an int


def give_back_large_tensors() -> None:
    """Have every tensor of a megabyte or more mapped by itself, and given back to the machine when it is freed.

    FSDP makes each layer whole and lets go of it again, for every row and in both directions. Of such a hole glibc
    before 2.38 makes little use: torch asks for aligned memory, for which it wants more room than the same request
    left behind (glibc bug 14581), so smaller tensors settle in it and the next layer goes to the end of the heap.
    With SmolLM2-135M in two shards 1.8 GB of 4.4 were such holes, and two shards needed more than one.

    Does nothing where the user has chosen (``MALLOC_MMAP_THRESHOLD_``).
    """
    _set(mmap_bytes=LARGE_BYTES, trim_bytes=_TRIM_BYTES)


def keep_large_tensors() -> None:
    """Have freed tensors stay with the process, for the next ones of their size.

    An engine that loads weights makes every layer anew, packs it, and lets go of the first copy: at each publish the
    machine took those pages back, and handed them out again zeroed. That was a third of the time of a load.

    Does nothing where the user has chosen (``MALLOC_MMAP_THRESHOLD_``).
    """
    _set(mmap_bytes=_NO_TENSOR_BYTES, trim_bytes=_NO_HEAP_BYTES)


def _set(*, mmap_bytes: int, trim_bytes: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt(_M_MMAP_THRESHOLD, mmap_bytes)
    mallopt(_M_TRIM_THRESHOLD, trim_bytes)
