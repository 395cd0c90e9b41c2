"""Inside ``vllm serve`` on a GPU: weights by vLLM's own NCCL engine, with a record of what came.

vLLM's engine broadcasts buckets and hands what it unpacks to ``model.load_weights``. Here that name leads past the
record of hashes and parts first, and on to the model.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine, NCCLWeightTransferInitInfo

from grpo.engine.vllm_engine.parcel_transfer import ServedTransfer
from grpo.engine.vllm_engine.transfer import Delivery

NamedTensors = Iterable[tuple[str, torch.Tensor]]


class _Recorder(torch.nn.Module):
    """What vLLM's NCCL engine takes for the model."""

    def __init__(self, take: Callable[[NamedTensors], None]) -> None:
        super().__init__()
        self._take = take

    def load_weights(self, tensors: NamedTensors) -> None:
        self._take(tensors)


class NcclTransfer(ServedTransfer):
    """Receives bucket after bucket; all of one update are one delivery."""

    init_info_cls = NCCLWeightTransferInitInfo  # type: ignore[assignment]  # the base class' is for no connection

    def __init__(
        self, config: WeightTransferConfig, vllm_config: VllmConfig, device: torch.device, model: torch.nn.Module
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        self._nccl = NCCLWeightTransferEngine(config, vllm_config, device, _Recorder(self._take))

    def init_transfer_engine(self, init_info: Any) -> None:
        """Join the trainer's group; a group of before is left."""
        self._nccl.shutdown()
        self._nccl.init_transfer_engine(init_info)

    def start_weight_update(self) -> None:
        super().start_weight_update()
        self.last, self._delivery = None, Delivery(tensors=iter(()))

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self._nccl.update_weights(update_info)

    def _take(self, tensors: NamedTensors) -> None:
        """Load what one bucket held."""
        assert self._delivery is not None, "vLLM's worker receives nothing before an update has started"
        self._delivery.tensors = iter(tensors)
        with torch.device(self.device):
            self.model.load_weights(self._recorded(self._delivery))

    def shutdown(self) -> None:
        """Leave the trainer's group."""
        self._nccl.shutdown()
