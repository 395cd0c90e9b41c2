"""Weights from the learner to the engine in the same process, through vLLM's weight-transfer protocol.

vLLM asks a transfer engine for three things: start (restore every parameter to the checkpoint's layout), update
(receive tensors) and finish (repack, into the memory that the kernels already use). Ours receives the learner's
tensors as they are, and keeps two records on the way: a hash of what came, and which of the engine's parameters
it reached, counted in elements, so that one expert of a fused parameter cannot go missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from vllm.config import VllmConfig
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.model_executor.model_loader.reload.meta import SKIP_LOAD_TENSORS
from vllm.model_executor.model_loader.reload.utils import get_tensor_load_numel

from grpo.engine.vllm_engine import patches
from grpo.weights import Tensors, fingerprint

BACKEND = "grpo-in-process"


@dataclass
class Delivery(WeightTransferUpdateInfo):
    """One update: the tensors going in, and what became of them coming out.

    ``tensors`` must stay unchanged until the update is finished: vLLM keeps them until a layer is complete.
    """

    tensors: Tensors
    hashes: dict[str, str] = field(default_factory=dict)
    missed: tuple[str, ...] = ()
    repacked: tuple[str, ...] = ()


@dataclass
class NoInit(WeightTransferInitInfo):
    """Nothing to connect within one process."""


class Copied(TorchDispatchMode):
    """Counts the elements that are copied into a parameter of ``device`` meanwhile.

    vLLM restores parameters on the device ``meta`` and runs a loader there to learn how much it would copy. When a
    layer is complete it runs all its loaders again, into memory: those are on another device, and do not count.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default and args[0].device == self._device:
            self.num_elements += args[0].numel()
        elif func is torch.ops.aten.fill_.Scalar and args[0].numel() == 1:  # how vLLM loads a single number
            self.num_elements += 1
        return func(*args, **(kwargs or {}))


class Slot:
    """One parameter of the engine, or this worker's slice of one: how many elements it awaits, which parts came.

    What counts is what a loader copies, not what it is given: it is given whole tensors, of which a worker of several
    takes its slice, and experts of which other workers hold it takes none.
    """

    def __init__(self, name: str, layer: torch.nn.Module, parameter: Any) -> None:
        self.name = name
        self._awaited = _loadable_elements(layer, parameter)
        self._experts = _experts_held(layer, parameter)
        self._parameter, self._loader = parameter, parameter.weight_loader
        self._came = 0
        self._parts: set[tuple[int | None, object]] = set()
        parameter.weight_loader = self._counting(self._loader)

    def release(self) -> None:
        """Give the parameter its own loader back: vLLM keeps it for the next update, which would count twice."""
        self._parameter.weight_loader = self._loader

    def _counting(self, loader: Any) -> Any:
        @wraps(loader)  # keeps the name by which vLLM knows a loader that it has wrapped
        def counted(*args: Any, **kwargs: Any) -> Any:
            shard = kwargs.get("shard_id", kwargs.get("loaded_shard_id", args[2] if len(args) > 2 else None))
            part = (kwargs.get("expert_id"), shard)
            with Copied(self._parameter.device) as copied:
                told = loader(*args, **kwargs)
            if copied.num_elements and part not in self._parts:  # one that comes twice does not stand for another
                self._came += copied.num_elements
                self._parts.add(part)
            return told

        return counted

    def missing(self) -> list[str]:
        """This parameter's name, once for each part of it that no tensor reached."""
        if self._came >= self._awaited:
            return []
        if not self._came:
            return [self.name]
        experts = {expert for expert, _ in self._parts if expert is not None}
        if experts:
            return self._missing_experts() or [f"{self.name} ({self._came} of {self._awaited} elements)"]
        came = ", ".join(sorted(str(shard) for _, shard in self._parts))
        return [f"{self.name} ({self._came} of {self._awaited} elements; only shard {came})"]

    def _missing_experts(self) -> list[str]:
        shards = sorted({str(shard) for _, shard in self._parts})
        came = {(expert, str(shard)) for expert, shard in self._parts}
        return [
            f"{self.name} (expert {expert}, {shard})"
            for expert in self._experts
            for shard in shards
            if (expert, shard) not in came
        ]


def _loadable_elements(layer: Any, parameter: torch.Tensor) -> int:
    """Elements that a checkpoint holds of ``parameter``: without what vLLM pads it by."""
    if isinstance(layer, VocabParallelEmbedding) and parameter.ndim == 2:
        return int(layer.num_org_embeddings_per_partition * parameter.shape[1])
    return int(get_tensor_load_numel(parameter))


def _experts_held(layer: Any, parameter: torch.Tensor) -> tuple[int, ...]:
    """Which experts a fused parameter holds, by the model's numbers; none where it is not one of experts."""
    if not isinstance(layer, RoutedExperts) or parameter.ndim != 3:
        return ()
    local: Callable[[int], int] = layer._map_global_expert_id_to_local_expert_id
    return tuple(expert for expert in range(layer.global_num_experts) if local(expert) >= 0)


class InProcessTransfer(WeightTransferEngine[NoInit, Delivery]):
    """The receiving side, inside vLLM's worker."""

    init_info_cls = NoInit
    update_info_cls = Delivery

    def __init__(
        self, config: WeightTransferConfig, vllm_config: VllmConfig, device: torch.device, model: torch.nn.Module
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        self.model: Any  # whichever of vLLM's models; all have load_weights
        self._tied_head = patches.tied_head(model)
        self._repacked = () if device.type != "cpu" else patches.repacked_parameters(model)
        self._slots: list[Slot] = []
        self._delivery: Delivery | None = None

    def init_transfer_engine(self, init_info: NoInit) -> None:
        """Nothing to connect."""

    def start_weight_update(self) -> None:
        self._release()  # the slots of an update that failed
        initialize_layerwise_reload(self.model)
        self._slots = [
            Slot(f"{path}.{name}", layer, parameter)
            for path, layer in self.model.named_modules()
            for name, parameter in layer.named_parameters(recurse=False)
            if name not in SKIP_LOAD_TENSORS
        ]

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self._delivery = update_info["delivery"]
        self.receive_weights(self._delivery)

    def receive_weights(self, update_info: Delivery) -> None:
        with torch.device(self.device):
            self.model.load_weights(self._recorded(update_info))

    def _recorded(self, delivery: Delivery) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in delivery.tensors:
            delivery.hashes[name] = fingerprint(tensor)
            if name == patches.TIED_HEAD and self._tied_head is not None:
                weight = self._tied_head.weight  # load_weights may skip a tied head, which would stay stale
                weight.weight_loader(weight, tensor)
            else:
                yield name, tensor

    def finish_weight_update(self) -> None:
        missed = tuple(part for slot in self._slots for part in slot.missing())
        self._release()
        with torch.device(self.device):
            finalize: Any = finalize_layerwise_reload
            finalize(self.model, self.model_config)
        if self._delivery is not None:
            self._delivery.missed, self._delivery.repacked = missed, self._repacked
            self._delivery = None

    def _release(self) -> None:
        for slot in self._slots:
            slot.release()
        self._slots.clear()

    def shutdown(self) -> None:
        """Nothing to disconnect."""


def register() -> None:
    """Make the backend known to vLLM; repeating it changes nothing."""
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, InProcessTransfer)
