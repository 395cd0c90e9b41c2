"""Attention of a stretch on a GPU, where one kernel takes all pieces of samples at once."""

import pytest
import torch

from grpo.learner.attention import packed_attention, packed_rows
from grpo.learner.context import _piece_by_piece, _pieces, _varlen, computed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

HEADS, KEY_HEADS, HEAD_DIM = 8, 2, 64
BF16 = 2e-2  # of the largest value, or of the inputs' spread


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("boundaries", [(0, 300), (0, 40, 41, 170, 300), (0, 3)])
def test_one_kernel_attends_as_pieces_one_by_one(boundaries: tuple[int, ...], size: int) -> None:
    """Forward and backward of every stretch, against fp32 on the CPU; borders within samples are the point."""
    torch.manual_seed(0)
    for rank in range(size):
        tokens = computed(boundaries[-1], rank, size)
        pieces = _pieces(boundaries, tokens)
        query = torch.randn(1, HEADS, tokens.stop - tokens.start, HEAD_DIM).bfloat16()
        reached = torch.randn(tokens.stop - pieces[0].first_key, 2, KEY_HEADS, HEAD_DIM).bfloat16()
        ours = (query.cuda().requires_grad_(), reached.cuda().requires_grad_())
        theirs = (query.float().requires_grad_(), reached.float().requires_grad_())
        output = _varlen(*ours, pieces, HEAD_DIM**-0.5).float().cpu()
        expected = _piece_by_piece(*theirs, pieces, HEAD_DIM**-0.5)
        assert_close(output, expected)
        weights = torch.randn_like(expected)
        found = torch.autograd.grad((output * weights).sum(), ours)
        for our, their in zip(found, torch.autograd.grad((expected * weights).sum(), theirs), strict=True):
            assert_close(our.float().cpu(), their)


def test_rows_in_fp32_are_attended_to_exactly() -> None:
    """FlashAttention has no fp32: samples go one by one, as on a CPU."""
    torch.manual_seed(0)
    boundaries = (0, 40, 41, 170, 300)
    query = torch.randn(1, HEADS, 300, HEAD_DIM)
    key, value = torch.randn(2, 1, KEY_HEADS, 300, HEAD_DIM)
    with packed_rows(boundaries):
        expected, _ = packed_attention(torch.nn.Module(), query, key, value, None, scaling=HEAD_DIM**-0.5)
        on_gpu = (part.cuda() for part in (query, key, value))
        output, _ = packed_attention(torch.nn.Module(), *on_gpu, None, scaling=HEAD_DIM**-0.5)
    assert float((output.cpu() - expected).abs().max()) < 1e-5


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float((ours - theirs).detach().abs().max()) <= BF16 * max(1.0, float(theirs.detach().abs().max()))
