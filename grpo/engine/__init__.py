"""Engines sample answers from the policy. ``make_engine`` builds the one that a recipe names."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from grpo.engine.protocol import Engine
from grpo.errors import MissingPackageError
from grpo.recipe import Rollout

if TYPE_CHECKING:
    import torch

    from grpo.engine.vllm_engine.engine import VllmEngine

__all__ = ["make_engine", "make_vllm_engine"]


def make_engine(
    *,
    model: str,
    module: "torch.nn.Module | None",
    rollout: Rollout,
    dtype: str,
    max_model_len: int,
    decode: Callable[[Sequence[int]], str],
    on_gpu: bool,
    seed: int,
    engine_args: Mapping[str, Any] = MappingProxyType({}),
) -> Engine:
    """The engine that ``rollout.engine`` names; imports only what that engine needs.

    Args:
        model: folder or hub id of the checkpoint, which vLLM loads for itself.
        module: the learner's live model, which the transformers engine shares; vLLM has no use for it.
        dtype: "float32" or "bfloat16", of vLLM's copy.
        max_model_len: prompt and answer together, tokens.
        decode: tokens to text; the engine never makes tokens from text.
        engine_args: the recipe's ``engine.args``, for vLLM alone.

    Raises:
        MissingPackageError: the recipe asks for vLLM and it cannot be imported.
    """
    if rollout.engine == "transformers":
        from grpo.engine.transformers_engine import TransformersEngine

        assert module is not None, "the transformers engine samples from the learner's own weights"
        return TransformersEngine(module, rollout=rollout, decode=decode, max_model_len=max_model_len)
    return make_vllm_engine(
        model=model,
        rollout=rollout,
        dtype=dtype,
        max_model_len=max_model_len,
        decode=decode,
        on_gpu=on_gpu,
        seed=seed,
        engine_args=engine_args,
    )


def make_vllm_engine(
    *,
    model: str,
    rollout: Rollout,
    dtype: str,
    max_model_len: int,
    decode: Callable[[Sequence[int]], str],
    on_gpu: bool,
    seed: int,
    engine_args: Mapping[str, Any] = MappingProxyType({}),
) -> "VllmEngine":
    """The vLLM engine, split over several workers where ``rollout.tensor_parallel`` says so; see ``make_engine``."""
    try:
        from grpo.engine.vllm_engine.in_process import SplitVllmEngine, VllmEngine
    except ImportError as error:
        extra = "gpu" if on_gpu else "cpu"
        raise MissingPackageError(
            f"recipe key 'rollout.engine' = 'vllm', but vLLM cannot be imported ({error}). Install it with "
            f"`pip install 'grpo[{extra}]'`, or set `rollout.engine: transformers`, which is slower and needs no vLLM."
        ) from error
    kind = SplitVllmEngine if rollout.tensor_parallel > 1 else VllmEngine
    return kind(
        model=model,
        rollout=rollout,
        dtype=dtype,
        max_model_len=max_model_len,
        decode=decode,
        on_gpu=on_gpu,
        seed=seed,
        engine_args=engine_args,
    )
