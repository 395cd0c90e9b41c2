"""What vLLM loads of this package in each of its processes, through the entry point ``vllm.general_plugins``.

A backend that is registered in the process that asks for it would not reach the workers of a server. The classes are
named, not imported: a process that uses neither of them imports nothing but this file.
"""

from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from grpo.engine.server_command import NCCL, SHARED_MEMORY

_CLASSES = {
    SHARED_MEMORY: ("grpo.engine.vllm_engine.parcel_transfer", "ParcelTransfer"),
    NCCL: ("grpo.engine.vllm_engine.nccl_transfer", "NcclTransfer"),
}


def register() -> None:
    """Make the backends of `vllm serve` known to vLLM; repeating it changes nothing."""
    for backend, (module, name) in _CLASSES.items():
        if backend not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(backend, module, name)
