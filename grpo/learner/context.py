"""Context parallelism: a packed row is split over ranks in stretches, and only attention sees more than a stretch.

Each rank computes embeddings, norms, experts and the head of its own tokens. In attention its queries meet the keys and
values of all ranks, gathered layer by layer; their gradients go back to the ranks that they came from. With grouped
queries (key-value heads K < heads) what travels is 2 x T x K x head_dim a layer, and each rank keeps it for the way
back: that, not the activations of T tokens, is what of a row is not divided.

Stretches are contiguous and equally long, which balances all but attention itself: in one sample as long as the row the
last rank does 2 - 1/C times the mean of the attention products (1.75 times at C = 4), and the others wait for it.

Shapes: T tokens of the row, S of a rank's stretch, C ranks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from grpo.datatypes import Row


def stretch(num_tokens: int, rank: int, size: int) -> tuple[int, int]:
    """Where a rank's stretch starts and ends; lengths differ by one at most, the longer ones first.

    >>> [stretch(7, rank, 3) for rank in range(3)], [stretch(1, rank, 2) for rank in range(2)]
    ([(0, 3), (3, 5), (5, 7)], [(0, 1), (1, 1)])
    """
    length, longer = divmod(num_tokens, size)
    start = rank * length + min(rank, longer)
    return start, start + length + (rank < longer)


def computed(num_tokens: int, rank: int, size: int) -> slice:
    """The tokens of a row that a rank computes: its stretch.

    In place of an empty stretch it is the row's first token again, whose keys, values and outputs are dropped: not all
    kernels take no tokens at all, and a rank without a part in the graph would be missing in the collectives.
    """
    start, end = stretch(num_tokens, rank, size)
    return slice(start, end) if start < end else slice(0, 1)


def owned_tokens(row: Row, rank: int, size: int) -> npt.NDArray[np.bool_]:
    """The loss tokens of a row whose logits a rank computes, shape (T,): those of token t lie at t - 1.

    Over the ranks each loss token is owned once.
    """
    start, end = stretch(len(row.token_ids_T), rank, size)
    owned = np.zeros_like(row.loss_mask_T)
    owned[start + 1 : end + 1] = row.loss_mask_T[start + 1 : end + 1]
    return owned


def context_attention(
    query: Tensor, key: Tensor, value: Tensor, boundaries: Sequence[int], scaling: float, group: dist.ProcessGroup
) -> Tensor:
    """Causal attention of this rank's stretch within each sample of the row, wherever its keys are.

    Every rank of ``group`` must call it, forward and backward, as often and in the same order as the others.

    Args:
        query: (1, heads, S, head_dim) of the tokens that ``computed`` names.
        key, value: (1, kv heads, S, head_dim) of the same tokens.
        boundaries: of the whole row.

    Returns:
        (1, S, heads, head_dim).
    """
    num_tokens = boundaries[-1]
    tokens = computed(num_tokens, group.rank(), group.size())
    assert query.shape[2] == tokens.stop - tokens.start, "queries are those of this rank's stretch"
    pieces = _pieces(boundaries, tokens)
    own = torch.stack((key[0], value[0])).permute(2, 0, 1, 3)  # (S, 2, kv heads, head_dim)
    whole = cast(Tensor, _Gather.apply(own, num_tokens, group))  # type: ignore[no-untyped-call]
    reached = whole[pieces[0].first_key : tokens.stop]
    attend = _varlen if has_one_kernel(query) else _piece_by_piece
    return attend(query, reached, pieces, scaling)


def has_one_kernel(query: Tensor) -> bool:
    """Whether FlashAttention takes it, and so all samples of a row at once: on a GPU, in the formats that it has."""
    return query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)


class _Piece(NamedTuple):
    """What of one sample lies in a stretch: queries [start, end) of the row, which see keys from ``first_key`` on."""

    first_key: int
    start: int
    end: int

    @property
    def num_queries(self) -> int:
        return self.end - self.start

    @property
    def num_keys(self) -> int:
        return self.end - self.first_key


def _pieces(boundaries: Sequence[int], tokens: slice) -> list[_Piece]:
    """Never none; only the first may have keys before its queries, so their keys lie end to end."""
    samples = zip(boundaries, boundaries[1:], strict=False)
    clipped = [_Piece(start, max(start, tokens.start), min(end, tokens.stop)) for start, end in samples]
    return [piece for piece in clipped if piece.num_queries > 0]


def _piece_by_piece(query: Tensor, reached: Tensor, pieces: Sequence[_Piece], scaling: float) -> Tensor:
    """``reached``: keys and values of the pieces, (tokens, 2, kv heads, head_dim)."""
    key, value = reached.permute(1, 2, 0, 3).unsqueeze(1)
    num_keys = [piece.num_keys for piece in pieces]
    queries = query.split([piece.num_queries for piece in pieces], 2)
    parts = [
        functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_lower_right(piece, query.device),
            is_causal=piece.start == piece.first_key,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        for piece, q, k, v in zip(pieces, queries, key.split(num_keys, 2), value.split(num_keys, 2), strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2)


def _lower_right(piece: _Piece, device: torch.device) -> Tensor | None:
    """The mask of a sample's later piece, (queries, keys); its beginning needs none, being causal from the corner.

    A stretch has one such piece at most, so what a layer holds of masks is no more than S x T.
    """
    if piece.start == piece.first_key:
        return None
    mask = torch.ones(piece.num_queries, piece.num_keys, dtype=torch.bool, device=device)
    return mask.tril(piece.num_keys - piece.num_queries)


def _varlen(query: Tensor, reached: Tensor, pieces: Sequence[_Piece], scaling: float) -> Tensor:
    """As ``_piece_by_piece``, in one kernel, whose causal mask is aligned with the last query and the last key."""
    from torch.nn.attention.varlen import varlen_attn

    num_queries, num_keys = [piece.num_queries for piece in pieces], [piece.num_keys for piece in pieces]
    key, value = reached.unbind(1)
    output = varlen_attn(
        query[0].transpose(0, 1).contiguous(),
        key.contiguous(),
        value.contiguous(),
        _offsets(num_queries, query.device),
        _offsets(num_keys, query.device),
        max(num_queries),
        max(num_keys),
        scale=scaling,
        window_size=(-1, 0),  # causal
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(output, Tensor)
    return output[None]


def _offsets(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=device)


class _Gather(torch.autograd.Function):
    """(S, ...) of each rank -> (T, ...) on all; the gradient of a rank's tokens is the sum over all ranks.

    Collectives of equal parts, each as long as the longest stretch, so that any backend has them.
    """

    @staticmethod
    def forward(context: Any, own: Tensor, num_tokens: int, group: dist.ProcessGroup) -> Tensor:
        context.num_tokens, context.num_own, context.group = num_tokens, len(own), group
        size = group.size()
        longest = -(-num_tokens // size)  # an empty stretch brings one dropped token, and then the longest is one
        padded = functional.pad(own, (0, 0) * (own.ndim - 1) + (0, longest - len(own))).contiguous()
        whole = own.new_empty(size * longest, *own.shape[1:])
        parts = whole.split(longest)
        dist.all_gather(list(parts), padded, group=group)
        if len(whole) == num_tokens:
            return whole
        return torch.cat([part[: _length(num_tokens, rank, size)] for rank, part in enumerate(parts)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        num_tokens, size = context.num_tokens, context.group.size()
        longest = -(-num_tokens // size)
        parts = gradients[0].new_zeros(size, longest, *gradients[0].shape[1:])
        for rank in range(size):
            start, end = stretch(num_tokens, rank, size)
            parts[rank, : end - start] = gradients[0][start:end]
        own = torch.empty_like(parts[0])
        dist.reduce_scatter(own, list(parts), group=context.group)
        return own[: context.num_own], None, None


def _length(num_tokens: int, rank: int, size: int) -> int:
    start, end = stretch(num_tokens, rank, size)
    return end - start
