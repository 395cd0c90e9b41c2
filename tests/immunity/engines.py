"""An engine that holds weights of its own, as vLLM does: only ``load`` renews them."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from grpo.engine.transformers_engine import TransformersEngine
from grpo.weights import Receipt, Tensors
from tests.factories import make_recipe


class CopyingEngine(TransformersEngine):
    """Loads what is published into a model that it made from ``source``, through files, as a checkpoint is loaded.

    A bug is injected by overriding ``arrives`` (what reaches the engine) or ``computes_with`` (what it makes of that).
    """

    def __init__(self, source: Path, scratch: Path) -> None:
        self._scratch = scratch
        self._held = load_file(source / "model.safetensors")
        AutoConfig.from_pretrained(source).save_pretrained(scratch)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
        super().__init__(model, rollout=make_recipe().rollout, decode=str)

    def load(self, tensors: Tensors, version: int) -> Receipt:
        arrived = {name: tensor.clone() for name, tensor in self.arrives(tensors)}
        receipt = super().load(iter(arrived.items()), version)
        self._held |= {name: tensor.contiguous().clone() for name, tensor in self.computes_with(arrived).items()}
        save_file(self._held, self._scratch / "model.safetensors", metadata={"format": "pt"})
        self._model = AutoModelForCausalLM.from_pretrained(self._scratch, dtype=torch.float32).eval()
        return receipt

    def arrives(self, tensors: Tensors) -> Tensors:
        return tensors

    def computes_with(self, arrived: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return arrived
