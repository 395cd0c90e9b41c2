"""Tensors in groups of bounded size: for files that are written, and messages that are sent, one after another."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def buckets(tensors: "Iterable[tuple[str, torch.Tensor]]", size: int) -> "Iterator[list[tuple[str, torch.Tensor]]]":
    """Tensors in their order, as many together as come to ``size`` bytes; a larger one is alone.

    >>> import torch
    >>> tensors = [("a", torch.zeros(3)), ("b", torch.zeros(2)), ("c", torch.zeros(9))]
    >>> [len(bucket) for bucket in buckets(iter(tensors), 20)]
    [2, 1]
    """
    bucket: list[tuple[str, torch.Tensor]] = []
    held = 0
    for name, tensor in tensors:
        if bucket and held + tensor.nbytes > size:
            yield bucket
            bucket, held = [], 0
        bucket.append((name, tensor))
        held += tensor.nbytes
    if bucket:
        yield bucket
