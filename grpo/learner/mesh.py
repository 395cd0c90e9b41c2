"""The learner's processes, laid out by what they share: a coordinate in each dimension, and a group along it.

    pipeline x replicate x shard x context x tensor

Neighbours in the last dimension have neighbouring ranks, because they speak the most: on GPUs they belong on one node.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from grpo.recipe import Parallel

DIMENSIONS = ("pipeline", "replicate", "shard", "context", "tensor")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mesh:
    """Where this process stands among the learner's. A process alone has no groups, and every sum is what it has."""

    sizes: Parallel
    devices: DeviceMesh | None = None

    @property
    def is_alone(self) -> bool:
        return self.devices is None

    @property
    def rank(self) -> int:
        return 0 if self.is_alone else dist.get_rank()

    def size(self, dimension: str) -> int:
        return int(getattr(self.sizes, dimension))

    def at(self, dimension: str) -> int:
        """This process' coordinate."""
        return 0 if self.devices is None else int(self.devices[dimension].get_local_rank())

    def group(self, dimension: str) -> dist.ProcessGroup:
        assert self.devices is not None, "a process alone has no groups"
        return self.devices[dimension].get_group()

    @property
    def num_shares(self) -> int:
        """Among how many the rows of a step are divided; the processes of one share work on the same rows."""
        return self.sizes.replicate * self.sizes.shard

    @property
    def share(self) -> int:
        return self.at("replicate") * self.sizes.shard + self.at("shard")

    @property
    def counts(self) -> bool:
        """Whether sums over rows take this process' part: of those that compute the same one alone does."""
        return self.at("tensor") == 0 and self.at("pipeline") == self.sizes.pipeline - 1

    def sum_(self, tensor: torch.Tensor, dimension: str) -> torch.Tensor:
        """In place, over the processes along a dimension."""
        if self.size(dimension) > 1:
            dist.all_reduce(tensor, group=self.group(dimension))
        return tensor

    def gather(self, item: T) -> list[T]:
        """What each process that ``counts`` has, in order of ranks; the same list everywhere."""
        found = self.gather_all((self.counts, item if self.counts else None))
        return [cast(T, item) for counts, item in found if counts]

    def gather_all(self, item: T) -> list[T]:
        """What each process has, in order of ranks; the same list everywhere."""
        if self.is_alone:
            return [item]
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, item)
        return found

    def sum_over_context(self, values: torch.Tensor) -> torch.Tensor:
        """Over the processes that each have a stretch of the same rows; what is summed loses its gradient."""
        return values if self.size("context") == 1 else self.sum_(values.detach().clone(), "context")

    def assign(self, costs: Sequence[float]) -> list[list[int]]:
        """Indices of ``costs`` for each share, so that all finish together: the dearest first, to whom has least.

        >>> Mesh(Parallel(shard=2)).assign([3.0, 5.0, 4.0, 1.0])
        [[1, 3], [2, 0]]
        """
        shares: list[list[int]] = [[] for _ in range(self.num_shares)]
        loads = [0.0] * self.num_shares
        for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
            least = min(range(self.num_shares), key=lambda share: (loads[share], share))
            shares[least].append(index)
            loads[least] += costs[index]
        return shares


ALONE = Mesh(Parallel())


def connect(sizes: Parallel, *, rank: int, address: str, device: str, patience_s: float) -> Mesh:
    """Meet the other processes at ``address`` (``tcp://host:port``, or ``env://`` under a launcher).

    ``patience_s`` bounds every collective: a process that another waits for in vain ends both with an error.
    """
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        init_method=address,
        rank=rank,
        world_size=sizes.num_processes,
        timeout=datetime.timedelta(seconds=patience_s),
    )
    mesh = lay_out(sizes, device)
    for dimension in DIMENSIONS:  # groups made by torch's mesh begin with torch's own bound
        dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=patience_s), mesh.group(dimension))
    return mesh


def lay_out(sizes: Parallel, device: str) -> Mesh:
    """The mesh of processes that have met."""
    shape = tuple(getattr(sizes, dimension) for dimension in DIMENSIONS)
    return Mesh(sizes, init_device_mesh(device, shape, mesh_dim_names=DIMENSIONS))
