"""Tensor and expert parallelism: each process has some heads, some columns, some experts (Megatron, arXiv 1909.08053).

What goes into a split part is every process' whole (its gradient is the sum of theirs); what comes out of it is summed.
Parameters are plain tensors of the part's own shape, cut by the rules below from what a checkpoint holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from grpo.learner.mesh import Mesh


@dataclass(frozen=True, slots=True)
class Cut:
    """How a parameter is cut: along ``dimension``, in each of its ``halves`` apart (gate and up lie in one)."""

    dimension: int
    halves: int = 1

    def part(self, whole: Tensor, at: int, size: int) -> Tensor:
        halves = whole.chunk(self.halves, self.dimension)
        return torch.cat([half.chunk(size, self.dimension)[at] for half in halves], self.dimension).contiguous()

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """Undoes ``part``."""
        cut = [part.chunk(self.halves, self.dimension) for part in parts]
        return torch.cat([part[half] for half in range(self.halves) for part in cut], self.dimension)


_ROWS, _COLUMNS = Cut(0), Cut(1)
_CUTS = {
    **{f"self_attn.{name}_proj.{what}": _ROWS for name in "qkv" for what in ("weight", "bias")},
    "self_attn.o_proj.weight": _COLUMNS,
    "mlp.gate_proj.weight": _ROWS,
    "mlp.up_proj.weight": _ROWS,
    "mlp.down_proj.weight": _COLUMNS,
    "mlp.experts.gate_up_proj": Cut(1, halves=2),
    "mlp.experts.down_proj": Cut(2),
}
_BY_EXPERT = {"mlp.experts.gate_up_proj": Cut(0), "mlp.experts.down_proj": Cut(0)}
_PARTIAL = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")  # whole, but each process sees its own heads alone


def cut_of(name: str, mesh: Mesh) -> Cut | None:
    """How the parameter is cut over the tensor dimension; None where every process has all of it."""
    if mesh.size("tensor") == 1:
        return None
    inside = ".".join(name.split(".layers.")[-1].split(".")[1:])
    by_expert = _BY_EXPERT if mesh.sizes.expert > 1 else {}
    return by_expert.get(inside) or _CUTS.get(inside)


def is_partial(name: str) -> bool:
    """Whether the gradient of a whole parameter is to be summed over the tensor dimension."""
    return name.endswith(_PARTIAL)


def connect_parts(layer: nn.Module, mesh: Mesh) -> None:
    """Have a decoder layer's split parts take in the whole, and give out the sum."""
    group, size = mesh.group("tensor"), mesh.size("tensor")
    part: Any = layer
    _enter_whole(part.self_attn, group)
    _leave_summed(part.self_attn.o_proj, group)
    if not hasattr(part.mlp, "experts"):
        _enter_whole(part.mlp, group)
        _leave_summed(part.mlp.down_proj, group)
        return
    experts = part.mlp.experts
    if mesh.sizes.expert > 1:
        experts.num_experts //= size
        experts._is_expert_parallel = True  # transformers' experts then leave out what is marked as elsewhere
    first = mesh.at("tensor") * experts.num_experts if mesh.sizes.expert > 1 else None
    experts.register_forward_pre_hook(_routed_to(group, first, experts.num_experts))
    _leave_summed(experts, group)


def _enter_whole(module: nn.Module, group: dist.ProcessGroup) -> None:
    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (_enter(args[0], group), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": _enter(kwargs["hidden_states"], group)}

    module.register_forward_pre_hook(enter, with_kwargs=True)


def _leave_summed(module: nn.Module, group: dist.ProcessGroup) -> None:
    module.register_forward_hook(lambda _module, _args, output: _leave(output, group))


def _routed_to(group: dist.ProcessGroup, first: int | None, num_experts: int) -> Any:
    """``first``: of this process' experts, where experts are whole; others' are marked by the number after the last."""

    def route(_: nn.Module, args: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        hidden, chosen, weights = args
        hidden, weights = _enter(hidden, group), _enter(weights, group)
        if first is not None:
            here = (chosen >= first) & (chosen < first + num_experts)
            chosen = torch.where(here, chosen - first, num_experts)
            weights = weights * here
        return hidden, chosen, weights

    return route


def _enter(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    entered: Tensor = _Enter.apply(tensor, group)  # type: ignore[no-untyped-call]
    return entered


def _leave(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    summed: Tensor = _Leave.apply(tensor, group)  # type: ignore[no-untyped-call]
    return summed


class _Enter(torch.autograd.Function):
    """The same on every process; the gradient is the sum of what each one's part sends back."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        context.group = group
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient, group=context.group)
        return gradient, None


class _Leave(torch.autograd.Function):
    """The sum of every process' part; its gradient goes to each part as it is."""

    @staticmethod
    def forward(_: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        summed = tensor.contiguous().clone()
        dist.all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
