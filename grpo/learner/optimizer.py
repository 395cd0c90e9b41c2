"""AdamW with warm-up, decay and gradient clipping, over the parameters or over their fp32 master copy."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from grpo.errors import NonFiniteError
from grpo.learner.layout import Layout, local, stored_name
from grpo.recipe import Learner


class Optimizer:
    """Steps on fp32 values whatever the model computes in.

    With ``offload_optimizer`` masters and moments are in the machine's memory, and AdamW steps there.

    A bf16 model keeps an fp32 master copy: gradients of every micro-batch are added up in fp32, AdamW steps on the
    master, and the parameters are the master rounded. (One step at 3e-6 moves under 1% of bf16 weights; without a
    master most of the update would be lost.)
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Learner,
        *,
        max_updates: int,
        kept_in: torch.dtype | None = None,
        layout: Layout | None = None,
    ) -> None:
        """
        Args:
            kept_in: what parameters are rounded to after each update; absent: the format that they are in.
            layout: of several processes, what this one has; it steps on its own parts alone.
        """
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._parameters = named
        self._kept_in = kept_in
        self._layout = layout
        exact = (torch.float32, torch.float64)
        in_place = kept_in in (None, *exact) and not settings.offload_optimizer
        self._apart = {name for name, p in named.items() if not (in_place and p.dtype in exact)}
        home = "cpu" if settings.offload_optimizer else None  # None: beside the parameter
        self._masters = {
            name: local(p.detach()).to(home, torch.promote_types(p.dtype, torch.float32), copy=True)
            if name in self._apart
            else _own_part(p)
            for name, p in named.items()
        }
        for master in self._masters.values():
            master.requires_grad_()
        self._settings = settings
        self._max_updates = max_updates
        self._adamw = torch.optim.AdamW(
            list(self._masters.values()),
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.num_updates = 0

    @property
    def learning_rate(self) -> float:
        """Of the next update; a function of ``num_updates`` alone, so that a resumed run goes on along its curve.

        It rises in a line over ``warmup_steps`` updates, the first of which has a share already, then is constant or
        falls, in a line or in half a cosine (arXiv 1608.03983), to ``min_lr_rate`` of itself after the last update.
        """
        peak, warmup = self._settings.learning_rate, self._settings.warmup_steps
        if self.num_updates < warmup:
            return peak * (self.num_updates + 1) / warmup
        if self._settings.lr_scheduler_type == "constant":
            return peak
        at = min(self.num_updates, self._max_updates - 1)  # beyond the end it stays at the last update's
        gone = max(0, at - warmup) / max(1, self._max_updates - warmup)
        left = 1 - gone if self._settings.lr_scheduler_type == "linear" else (1 + math.cos(math.pi * gone)) / 2
        return peak * (self._settings.min_lr_rate + (1 - self._settings.min_lr_rate) * left)

    def accumulate(self) -> None:
        """After each micro-batch's backward: add its gradients to the fp32 sum."""
        for name, parameter in self._parameters.items():
            master = self._masters[name]
            if parameter is master or parameter.grad is None:
                continue
            if parameter.dtype == master.dtype:
                continue  # fp32 gradients add up where they are
            gradient = local(parameter.grad)
            if master.grad is None:
                master.grad = gradient.to(master.device, master.dtype)
            else:
                master.grad += gradient.to(master.device)
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> float:
        """Clip, update, clear the gradients; returns the gradient norm before clipping.

        Raises:
            NonFiniteError: the norm is not a number; no parameter has changed.
        """
        for name, parameter in self._parameters.items():
            if parameter.grad is not None and parameter is not self._masters[name]:
                self._masters[name].grad = local(parameter.grad).to(self._masters[name].device)
        norm = self._clip()
        if not norm < float("inf"):
            self._clear_gradients()
            raise NonFiniteError(f"the gradient norm is {norm} at update {self.num_updates}; no weight was changed")
        for group in self._adamw.param_groups:
            group["lr"] = self.learning_rate
        self._adamw.step()
        self._clear_gradients()
        for name, parameter in self._parameters.items():
            if name in self._apart:
                local(parameter).copy_(self._masters[name].to(self._kept_in or parameter.dtype))
        self.num_updates += 1
        return norm

    def _clip(self) -> float:
        """The norm of the gradient before clipping, over all processes."""
        if self._layout is None:
            return float(nn.utils.clip_grad_norm_(self._masters.values(), self._settings.max_grad_norm))
        for master in self._masters.values():
            if master.grad is None:  # no row of this process' came near it, but others' may have
                master.grad = torch.zeros_like(master)
        gradients = {name: master.grad for name, master in self._masters.items() if master.grad is not None}
        self._layout.sum_gradients(gradients)
        norm = self._layout.norm(gradients)
        nn.utils.clip_grads_with_norm_(self._masters.values(), self._settings.max_grad_norm, norm)
        return float(norm)

    def _clear_gradients(self) -> None:
        self._adamw.zero_grad(set_to_none=True)
        for parameter in self._parameters.values():
            parameter.grad = None

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """What a resumed run needs beyond the parameters: separate master copies, and both moments, by name."""
        items = self._items()
        yield from ((label, part) for label, _, part in items) if self._layout is None else self._layout.wholes(items)

    def _items(self) -> Iterator[tuple[str, str, Tensor]]:
        """This process' parts: label, parameter, value."""
        for name, master in self._masters.items():
            if self._layout is not None and self._layout.is_second_copy(name):
                continue  # the embedding's are its own
            if name in self._apart:
                yield f"master/{name}", name, self._beside(name, master)
            for key, value in self._adamw.state.get(master, {}).items():
                yield f"{key}/{name}", name, self._beside(name, value)

    def _beside(self, name: str, value: Tensor) -> Tensor:
        """Where the parameter is, and the others' parts of it."""
        return value.detach().to(self._parameters[name].device) if value.ndim else value.detach()

    def _part(self, name: str, value: Tensor) -> Tensor:
        return value if self._layout is None or value.ndim == 0 else self._layout.part(name, value)

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        """Take back what ``tensors`` gave, over a model whose parameters are those of the same moment."""
        self.num_updates = num_updates
        for name, master in self._masters.items():
            if name in self._apart:
                master.copy_(self._part(name, tensors[stored_name(f"master/{name}", tensors)]))
            keys = ("step", "exp_avg", "exp_avg_sq")
            state = {key: tensors.get(stored_name(f"{key}/{name}", tensors)) for key in keys}
            self._adamw.state[master] = {
                key: self._part(name, value).to(master.device, copy=True)
                for key, value in state.items()
                if value is not None
            }
            if not self._adamw.state[master]:
                del self._adamw.state[master]  # never updated


def _own_part(parameter: nn.Parameter) -> Tensor:
    """What of a parameter is in this process' memory: itself, or its shard."""
    return local(parameter.detach()) if isinstance(parameter, DTensor) else parameter
