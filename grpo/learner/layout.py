"""Which part of each parameter this process has: built up from a checkpoint part by part, put together again by name.

A decoder layer is read, cut for the tensor dimension and sharded before the next one is read, so that no process ever
holds the whole model. What is shared out over ``shard`` is a DTensor of FSDP2's (arXiv 2304.11277), cut in rows.
"""

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import init_empty_weights
from huggingface_hub import snapshot_download
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from grpo.allocator import give_back_large_tensors
from grpo.buckets import buckets
from grpo.errors import ModelError
from grpo.learner.attention import PACKED
from grpo.learner.mesh import Mesh
from grpo.learner.pipeline import Elsewhere, Pipeline, keep_stage
from grpo.learner.tensor import connect_parts, cut_of, is_partial

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe")  # whose parts are known by name
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_BIASES = ("o_proj.bias", "gate_proj.bias", "up_proj.bias", "down_proj.bias")
_FILE_BYTES = 1 << 30


def load_parts(path: str, mesh: Mesh, *, dtype: torch.dtype, arithmetic: torch.dtype, device: str) -> PreTrainedModel:
    """This process' parts of a checkpoint, their values rounded to ``dtype`` and computed with in ``arithmetic``.

    Raises:
        ModelError: there is no such checkpoint, or its family is not one whose parts are known.
    """
    folder = Path(path) if Path(path).is_dir() else Path(snapshot_download(path, allow_patterns=["*.json", "*.safe*"]))
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"model {path!r} is a {config.model_type}, of which the learner cannot take a part: with sizes other than "
            f"1 under 'parallel', use one of {', '.join(FAMILIES)}, or set them to 1"
        )
    if device == "cpu":
        give_back_large_tensors()
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=PACKED, dtype=arithmetic)
    _check_biases(model, mesh, path)
    model.tie_weights()
    if mesh.size("pipeline") > 1:
        keep_stage(model, mesh.at("pipeline"), mesh.size("pipeline"))
    reader = _Reader(folder)
    for name, unit in (*_layers(model), ("", model)):
        _fill(unit, name, reader, mesh, dtype=dtype, arithmetic=arithmetic, device=device)
        if name and mesh.size("tensor") > 1:
            connect_parts(unit, mesh)
        if mesh.size("shard") > 1:
            _shard(unit, mesh)
    model.to(torch.device(device))  # buffers
    _check_sharded(model, mesh)
    return cast(PreTrainedModel, model.eval())


def _check_biases(model: nn.Module, mesh: Mesh, path: str) -> None:
    """A bias after a sum of parts would be added by each of them."""
    found = [name for name, _ in model.named_parameters() if name.endswith(_BIASES)]
    if found and mesh.size("tensor") > 1:
        raise ModelError(
            f"model {path!r} has {found[0]}, which every process of parallel.tensor = {mesh.size('tensor')} would add: "
            "set parallel.tensor=1 and use shard instead"
        )


def _layers(model: Any) -> Iterator[tuple[str, nn.Module]]:
    prefix = f"{model.base_model_prefix}.layers."
    for index, layer in enumerate(model.base_model.layers):
        if not isinstance(layer, Elsewhere):
            yield f"{prefix}{index}.", layer


def _fill(
    unit: nn.Module,
    prefix: str,
    reader: "_Reader",
    mesh: Mesh,
    *,
    dtype: torch.dtype,
    arithmetic: torch.dtype,
    device: str,
) -> None:
    """Replace what has no memory yet; a tied parameter stays one."""
    filled: dict[nn.Parameter, nn.Parameter] = {}
    for path, module in unit.named_modules():
        for own, parameter in module._parameters.items():
            if parameter is None or not parameter.is_meta:
                continue
            if parameter not in filled:
                name = prefix + (f"{path}." if path else "") + own
                whole, cut = reader.read(name), cut_of(name, mesh)
                part = whole if cut is None else cut.part(whole, mesh.at("tensor"), mesh.size("tensor"))
                filled[parameter] = nn.Parameter(part.to(dtype).to(arithmetic).to(device, copy=True))
            module._parameters[own] = filled[parameter]


def _shard(unit: nn.Module, mesh: Mesh) -> None:
    assert mesh.devices is not None
    sharded: FSDPModule = fully_shard(unit, mesh=mesh.devices["shard"])
    sharded.set_gradient_divide_factor(1.0)  # the loss is a sum over all shares, so its gradient is one, too
    sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other


def _check_sharded(model: nn.Module, mesh: Mesh) -> None:
    """Sharding that silently did nothing costs memory that nobody planned."""
    for name, parameter in model.named_parameters():
        if mesh.size("shard") > 1 and not isinstance(parameter, DTensor):
            raise ModelError(f"parallel.shard = {mesh.size('shard')}, but the parameter {name} was not sharded")


class Layout:
    """What this process has of each parameter, and how to make one whole again."""

    def __init__(self, model: nn.Module, mesh: Mesh, pipeline: Pipeline | None = None) -> None:
        self.mesh = mesh
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self._pipeline = pipeline

    def whole(self, name: str, part: Tensor) -> Tensor:
        """A parameter, or a value of the same shape (a moment, say), from every process' part; all must ask for it."""
        parameter = self._parameters.get(name)  # a buffer is whole everywhere
        if isinstance(parameter, DTensor):
            given = part if isinstance(part, DTensor) else _as_sharded(part, parameter)
            part = given.full_tensor()
        cut = cut_of(name, self.mesh)
        if cut is None:
            return part
        parts = [torch.empty_like(part) for _ in range(self.mesh.size("tensor"))]
        dist.all_gather(parts, part.contiguous(), group=self.mesh.group("tensor"))
        return cut.whole(parts)

    def wholes(self, items: Iterable[tuple[str, str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """All stages' items, each made whole, in order of stages; all processes must go through them.

        ``items``: of this process: label, parameter whose shape it has (or a number), part.
        """
        made = ((label, self._whole_or_number(name, part)) for label, name, part in items)
        if self._pipeline is None:
            yield from made
            return
        group, at = self.mesh.group("pipeline"), self.mesh.at("pipeline")
        for stage in range(self.mesh.size("pipeline")):
            while (given := _tell(next(made, None) if stage == at else None, stage, group)) is not None:
                yield given

    def _whole_or_number(self, name: str, part: Tensor) -> Tensor:
        """An optimizer's count of steps is a number, and the same everywhere."""
        return self.whole(name, part) if part.ndim else part

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This process' part of a value of the parameter's shape."""
        cut = cut_of(name, self.mesh)
        part = whole if cut is None else cut.part(whole, self.mesh.at("tensor"), self.mesh.size("tensor"))
        if not isinstance(self._parameters[name], DTensor):
            return part
        rows = part.chunk(self.mesh.size("shard"), 0)
        at = self.mesh.at("shard")
        return rows[at] if at < len(rows) else part[:0]

    @torch.no_grad()
    def sum_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Over all processes that saw other rows or other stretches of them; FSDP has summed over its shards."""
        for name, gradient in gradients.items():
            self.mesh.sum_(gradient, "replicate")
            self.mesh.sum_(gradient, "context")
            if is_partial(name):
                self.mesh.sum_(gradient, "tensor")
            if self._pipeline is not None and self._parameters[name] is self._pipeline.tied:
                self._pipeline.sum_tied(gradient)

    @torch.no_grad()
    def norm(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """Of the whole gradient: every element counted once, whoever has it."""
        own = {name: gradient for name, gradient in gradients.items() if not self.is_second_copy(name)}
        cut = [gradient for name, gradient in own.items() if cut_of(name, self.mesh) is not None]
        same = [gradient for name, gradient in own.items() if cut_of(name, self.mesh) is None]
        squares = self.mesh.sum_(_squares(cut), "tensor") + _squares(same)
        return self.mesh.sum_(self.mesh.sum_(squares, "shard"), "pipeline").sqrt()

    def is_second_copy(self, name: str) -> bool:
        """Of a parameter that is embedding on the first stage and head on the last."""
        pipeline = self._pipeline
        return pipeline is not None and not pipeline.is_first and self._parameters[name] is pipeline.tied


def _tell(item: tuple[str, Tensor] | None, stage: int, group: dist.ProcessGroup) -> tuple[str, Tensor] | None:
    """One stage's item, on all stages."""
    head: list[Any] = [None if item is None else (item[0], item[1].shape, item[1].dtype, item[1].device.type)]
    dist.broadcast_object_list(head, group=group, group_src=stage)
    if head[0] is None:
        return None
    label, shape, dtype, device = head[0]
    tensor = torch.empty(shape, dtype=dtype, device=device) if item is None else item[1].contiguous()
    dist.broadcast(tensor, group=group, group_src=stage)
    return label, tensor


def stored_name(name: str, stored: Container[str]) -> str:
    """Under which name a value lies: what is tied lies once, under the embedding's."""
    return name if name in stored else name.replace(_HEAD, _EMBEDDING)


def local(tensor: Tensor) -> Tensor:
    """The part in this process' memory, as a plain tensor that shares it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _as_sharded(part: Tensor, like: DTensor) -> DTensor:
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def _squares(gradients: Sequence[Tensor]) -> Tensor:
    device = gradients[0].device if gradients else torch.device("cpu")
    total = torch.zeros((), dtype=torch.float64, device=device)
    for gradient in gradients:
        total += gradient.double().square().sum()
    return total


class _Reader:
    """Parameters by their names in the model, read from a checkpoint one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if (folder / _INDEX).exists():
            self._files: dict[str, str] = json.loads((folder / _INDEX).read_text())["weight_map"]
        elif (folder / _SINGLE).exists():
            with safe_open(folder / _SINGLE, framework="pt") as file:
                self._files = dict.fromkeys(file.keys(), _SINGLE)
        else:
            raise ModelError(f"model {str(folder)!r} has neither {_SINGLE} nor {_INDEX}: save it as safetensors")

    def read(self, name: str) -> Tensor:
        name = stored_name(name, self._files)
        if name in self._files:
            with safe_open(self._folder / self._files[name], framework="pt") as file:
                return cast(Tensor, file.get_tensor(name))
        experts, found, which = name.rpartition(".experts.")
        if found:
            return self._read_experts(f"{experts}{found}", which)
        raise ModelError(f"the checkpoint {self._folder} has no tensor {name}")

    def _read_experts(self, prefix: str, which: str) -> Tensor:
        """transformers keeps a layer's experts in one tensor, checkpoints have them one by one."""
        names = ("gate_proj", "up_proj") if which == "gate_up_proj" else ("down_proj",)
        experts: list[Tensor] = []
        while f"{prefix}{len(experts)}.{names[0]}.weight" in self._files:
            experts.append(torch.cat([self.read(f"{prefix}{len(experts)}.{name}.weight") for name in names]))
        if not experts:
            raise ModelError(f"the checkpoint {self._folder} has no expert below {prefix}")
        return torch.stack(experts)


def save_by_layer(tensors: Iterator[tuple[str, Tensor]], model: PreTrainedModel, folder: Path, *, writes: bool) -> None:
    """A checkpoint in Hugging Face's form, a file at a time, so that one file's tensors are in memory at most.

    All processes go through ``tensors``; one ``writes``.
    """
    kept = (
        (name, tensor.cpu().contiguous().clone())
        for name, tensor in tensors
        if writes and not (name == _HEAD and model.config.tie_word_embeddings)
    )
    files: dict[str, str] = {}
    total = 0
    for number, bucket in enumerate(buckets(kept, _FILE_BYTES), start=1):
        file = f"model-{number:05}.safetensors"
        save_file(dict(bucket), folder / file, metadata={"format": "pt"})
        files |= {name: file for name, _ in bucket}
        total += sum(tensor.nbytes for _, tensor in bucket)
        bucket.clear()  # before the next is gathered
    if not writes:
        return
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / _INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
