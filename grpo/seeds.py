"""Seeds have names: each is derived from what it is for, never from a position in a batch."""

import hashlib


def sample_seed(run_seed: int, problem_id: str, attempt: int, sample_index: int) -> int:
    """The engine's seed for one answer, a non-negative 63-bit integer.

    >>> sample_seed(0, "arithmetic/7", 0, 3) == sample_seed(0, "arithmetic/7", 0, 3)
    True
    >>> sample_seed(0, "arithmetic/7", 0, 3) == sample_seed(0, "arithmetic/7", 1, 3)
    False
    """
    return named_seed("sample", run_seed, problem_id, attempt, sample_index)


def named_seed(*name: object) -> int:
    """A non-negative 63-bit integer from any sequence of names."""
    digest = hashlib.blake2b("\x1f".join(map(str, name)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
