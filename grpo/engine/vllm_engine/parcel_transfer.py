"""Inside ``vllm serve``: weights from a parcel in shared memory, and what the server tells of itself.

The orders to start, receive and finish come through vLLM's own HTTP routes, which answer "done" and no more. What was
received is therefore asked for afterwards, with a call to every worker (``ServedWorker.grpo_receipt``).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferUpdateInfo

from grpo.engine.parcel import read_parcel
from grpo.engine.vllm_engine import patches, plugin
from grpo.engine.vllm_engine.transfer import Delivery, InProcessTransfer

plugin.register()  # a server that names ServedWorker has the backends, be the entry point installed or not


@dataclass
class ParcelInfo(WeightTransferUpdateInfo):
    """Where the parcel lies, as JSON can carry it."""

    parcel: str


class ServedTransfer(InProcessTransfer):
    """The receiving side in a server's worker: patched as the engine in process is, and able to say what came.

    Attributes:
        last: the last update that was finished.
    """

    def __init__(
        self, config: WeightTransferConfig, vllm_config: VllmConfig, device: torch.device, model: torch.nn.Module
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
        patches.apply(on_gpu=device.type != "cpu", dtype=dtype)
        self.last: Delivery | None = None

    def finish_weight_update(self) -> None:
        finished = self._delivery
        super().finish_weight_update()
        self.last = finished


class ParcelTransfer(ServedTransfer):
    """Reads the tensors where the trainer wrote them: on this host."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.last = None
        parcel = Path(ParcelInfo(**update_info).parcel)
        super().update_weights({"delivery": Delivery(tensors=read_parcel(parcel))})


class ServedWorker:
    """What ``--worker-extension-cls`` adds to vLLM's worker; called through ``/collective_rpc``."""

    vllm_config: VllmConfig
    weight_transfer_engine: Any

    def grpo_settings(self) -> dict[str, Any]:
        """What must be as the trainer expects it."""
        config = self.vllm_config
        transfer = config.weight_transfer_config
        return {
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "logprobs_mode": config.model_config.logprobs_mode,
            "backend": transfer.backend if transfer is not None else "none",
            "world_size": config.parallel_config.world_size_across_dp,
        }

    def grpo_receipt(self) -> dict[str, Any]:
        """What this worker received in the last update; nothing where there was none, or it was not finished."""
        last = self.weight_transfer_engine.last
        if last is None:
            return {"hashes": {}, "missed": [], "repacked": []}
        return {"hashes": dict(last.hashes), "missed": list(last.missed), "repacked": list(last.repacked)}
