"""Attention over packed rows: each sample attends to itself alone, and nothing is masked or padded.

Registered with transformers as ``packed``. Inside ``packed_rows(boundaries)`` a row's samples are attended to one by
one, causally, or in one kernel where a GPU has it; outside, it is transformers' own sdpa, so the same module can
generate text.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from grpo.errors import ModelError
from grpo.learner.context import context_attention, has_one_kernel

PACKED = "packed"
_boundaries: ContextVar[tuple[int, ...] | None] = ContextVar("boundaries", default=None)
_sharing: ContextVar[ProcessGroup | None] = ContextVar("sharing", default=None)


@contextmanager
def packed_rows(boundaries: Sequence[int], sharing: ProcessGroup | None = None) -> Iterator[None]:
    """Within it, rows are one packed row of samples at these offsets.

    ``sharing``: the processes among which the row is shared out; the model is given this one's stretch of it.
    """
    tokens = _boundaries.set(tuple(boundaries)), _sharing.set(sharing)
    try:
        yield
    finally:
        _boundaries.reset(tokens[0])
        _sharing.reset(tokens[1])


def recomputation_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For torch's activation checkpointing: what surrounds a layer's forward, and its recomputation.

    On a GPU autograd recomputes in a thread of its own, which does not see this thread's context.
    """
    boundaries = _boundaries.get()
    return nullcontext(), nullcontext() if boundaries is None else packed_rows(boundaries, _sharing.get())


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """``query`` (1, heads, T, head_dim), ``key``, ``value`` (1, kv heads, T, head_dim) -> (1, T, heads, head_dim)."""
    boundaries = _boundaries.get()
    if boundaries is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output, None
    _refuse_short_window(kwargs.get("sliding_window"), boundaries)
    if (sharing := _sharing.get()) is not None:
        return context_attention(query, key, value, boundaries, kwargs["scaling"], sharing), None
    if has_one_kernel(query):
        return _varlen(query, key, value, boundaries, kwargs["scaling"]), None
    lengths = [end - start for start, end in zip(boundaries, boundaries[1:], strict=False)]
    # split, not slices: the backward pass of many slices adds up as many tensors of the whole row
    samples = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    parts = [
        functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=kwargs["scaling"], enable_gqa=query.shape[1] != key.shape[1]
        )
        for q, k, v in samples
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _varlen(query: Tensor, key: Tensor, value: Tensor, boundaries: tuple[int, ...], scaling: float) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query_T, key_T, value_T = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    offsets = torch.tensor(boundaries, dtype=torch.int32, device=query.device)
    longest = max(end - start for start, end in zip(boundaries, boundaries[1:], strict=False))
    output = varlen_attn(
        query_T,
        key_T,
        value_T,
        offsets,
        offsets,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),  # causal
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(output, Tensor)
    return output[None]


def _refuse_short_window(window: int | None, boundaries: tuple[int, ...]) -> None:
    longest = max(end - start for start, end in zip(boundaries, boundaries[1:], strict=False))
    if window is not None and longest > window:
        raise ModelError(
            f"the model attends within a window of {window} tokens, but a sample has {longest}: "
            f"set rollout.max_prompt_length + rollout.max_completion_length to at most {window}"
        )


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    if _boundaries.get() is not None:
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _mask)
