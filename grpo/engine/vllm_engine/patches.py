"""What vLLM must do differently to share a process with a learner that changes its weights.

Each patch says what breaks without it; all were needed with vLLM 0.32. They are applied once per process.
"""

import gc
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.models import registry
from vllm.v1.sample import sampler

TIED_HEAD = "lm_head.weight"  # its name in every checkpoint format that we send

T = TypeVar("T")
_first_load_only = UnquantizedFusedMoEMethod._setup_kernel


def repack_experts(method: Any, layer: Any, w13: torch.Tensor, w2: torch.Tensor) -> None:
    """vLLM's set-up of expert weights, with the CPU's packing repeated at every update.

    Without it the CPU kernel packs experts at the first load only; after an update it would read plain rows as
    packed blocks and the engine would sample noise, without an error.
    """
    is_update = method.moe_kernel is not None
    _first_load_only(method, layer, w13, w2)
    if is_update:
        method.moe_kernel.fused_experts.process_weights_after_loading(layer)


def no_ranks(logprobs: torch.Tensor, _chosen: torch.Tensor) -> torch.Tensor:
    """Zeros in place of each sampled token's rank, which nothing here reads.

    vLLM counts ranks in a function under ``torch.compile``: 3 s from a warm cache and up to 20 s from a cold one
    before the first token, then a pass over the vocabulary at every step.
    """
    return torch.zeros(logprobs.shape[0], dtype=torch.int64, device=logprobs.device)


def inspect_here(look: Callable[[], T]) -> T:
    """Look at a model's class in this process.

    vLLM starts another one for it, so as not to initialize CUDA before it forks; nothing forks here. That process
    imports all of vLLM again: 10 s and more, once for each architecture on a fresh machine.
    """
    return look()


def apply(*, on_gpu: bool, dtype: str) -> None:
    """Install the patches; repeating it changes nothing.

    An engine in fp32 multiplies in fp32 on a GPU too: Triton's kernels, attention among them, would round what they
    multiply to TF32, and probe texts then score 7e-3 nats apart instead of 1e-5. Workers inherit the setting.
    """
    if on_gpu and dtype == "float32":
        os.environ["TRITON_F32_DEFAULT"] = "ieee"
    _replace(registry, "_run_in_subprocess", inspect_here)
    _replace(sampler, "batched_count_greater_than", no_ranks)
    if not on_gpu:
        _replace(UnquantizedFusedMoEMethod, "_setup_kernel", repack_experts)


def _replace(owner: object, name: str, replacement: object) -> None:
    """Set an attribute that must exist: under a vLLM that has renamed it, starting is what should fail."""
    getattr(owner, name)
    setattr(owner, name, replacement)


def tied_head(model: torch.nn.Module) -> Any:
    """The output head where it shares the embedding's weight, else None.

    Asked before an update: during one, the two are restored as separate parameters, and the CPU head keeps a
    packed copy of its own that only a load of the head renews.
    """
    embeddings = {_address(module) for module in model.modules() if type(module) is VocabParallelEmbedding}
    heads = (module for module in model.modules() if isinstance(module, ParallelLMHead))
    return next((head for head in heads if _address(head) in embeddings), None)


def _address(layer: Any) -> int:
    return int(layer.weight.data_ptr())


def repacked_parameters(model: torch.nn.Module) -> tuple[str, ...]:
    """Parameters of which the CPU kernels hold a packed form, experts first (the likelier to be wrong)."""
    experts, linears = [], []
    for path, layer in model.named_modules():
        if isinstance(getattr(layer, "quant_method", None), UnquantizedFusedMoEMethod):
            experts += [f"{path}.{name}" for name, _ in layer.named_parameters(recurse=False)]
        elif hasattr(layer, "cpu_linear"):
            linears.append(f"{path}.weight")
    return (*experts, *linears)


@contextmanager
def learner_undisturbed() -> Iterator[None]:
    """Start an engine without changing what the rest of the process relies on.

    vLLM reseeds every global generator, replaces ``torch.set_num_threads`` by a refusal, and binds all memory of
    the process to one NUMA node. Its four garbage collections walk every object of every imported package
    (1.3 s), unless those are frozen first.
    """
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    set_num_threads, num_threads = torch.set_num_threads, torch.get_num_threads()
    gc.freeze()
    with _without_memory_binding():
        yield
    torch.set_num_threads = set_num_threads
    torch.set_num_threads(num_threads)
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.set_rng_state(torch_state)


@contextmanager
def _without_memory_binding() -> Iterator[None]:
    ops: Any = torch.ops._C
    if not hasattr(ops, "init_cpu_memory_env"):
        yield
        return
    bind = ops.init_cpu_memory_env
    ops.init_cpu_memory_env = lambda _nodes: None
    try:
        yield
    finally:
        ops.init_cpu_memory_env = bind
