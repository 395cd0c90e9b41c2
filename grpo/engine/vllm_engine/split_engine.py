"""One engine split over several GPUs, or over several processes of a CPU: vLLM's workers are processes of their own.

Requests are scheduled in this process, as in the engine of one worker. Weights cannot come here as live tensors: every
worker reads them from one parcel in shared memory, takes its slices, and says what came and what it reached.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo.engine.parcel import Parcel
from grpo.engine.server_command import SHARED_MEMORY, WORKER_EXTENSION
from grpo.engine.vllm_engine.engine import VllmEngine
from grpo.errors import EngineError
from grpo.recipe import Rollout
from grpo.weights import Receipt, Tensors


class SplitVllmEngine(VllmEngine):
    """As `VllmEngine`, over ``rollout.tensor_parallel`` workers; where one dies, whatever is asked next fails.

    Each imports this process' ``__main__`` module first, as ``__mp_main__``: it must do nothing then but see to it that
    the worker ends with this process, as ``grpo.engine.replica_process`` does.
    """

    transfer_backend = SHARED_MEMORY

    def _worker_arguments(self, rollout: Rollout) -> dict[str, Any]:
        return {
            "tensor_parallel_size": rollout.tensor_parallel,
            "enable_expert_parallel": rollout.expert_parallel,
            "distributed_executor_backend": "mp",
            "worker_extension_cls": WORKER_EXTENSION,
        }

    def load(self, tensors: Tensors, version: int) -> Receipt:
        """As `VllmEngine.load`, by a parcel of its own."""
        parcel = Parcel()
        try:
            parcel.write(tensors)
            return self.load_parcel(parcel.path, version)
        finally:
            parcel.close()

    def load_parcel(self, path: Path, version: int) -> Receipt:
        """Have every worker load the parcel at ``path``; the receipt is of all of them.

        Raises:
            EngineError: answers are still being sampled, or vLLM knows no parameter for a tensor.
        """
        try:
            self._update({"parcel": str(path)}, version)
        except RuntimeError as error:
            if self._llm.model_executor.is_failed:  # a worker is gone, and nothing can be done with the others
                raise
            raise EngineError(f"vLLM could not load version {version}: {error}") from error
        told: list[dict[str, Any]] = self._llm.collective_rpc("grpo_receipt")
        hashes = joined([worker["hashes"] for worker in told])
        receipts = [
            Receipt(version=version, hashes=hashes, missed=_of(rank, worker), repacked=tuple(worker["repacked"]))
            for rank, worker in enumerate(told)
        ]
        return Receipt.of_all(receipts)


def joined(hashes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The hash of each tensor that came to all workers; unlike ones side by side, so that they equal none.

    >>> joined([{"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "5"}])
    {'a': '1', 'b': '2, 5'}
    """
    everywhere = [name for name in hashes[0] if all(name in others for others in hashes)]
    return {name: ", ".join(sorted({others[name] for others in hashes})) for name in everywhere}


def _of(rank: int, worker: Mapping[str, Any]) -> tuple[str, ...]:
    """What a worker missed, and which worker it was."""
    return tuple(f"{part} of worker {rank}" for part in worker["missed"])
