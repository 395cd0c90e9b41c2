"""A row split over ranks: loss and gradient are those of its samples, each alone, without any code of ours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, distributed, nn
from torch.nn import functional
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from grpo.datatypes import Row
from grpo.learner.context import computed, context_attention, owned_tokens, stretch
from grpo.packing import pack
from tests.factories import make_sample
from tests.models import SHAPE
from tests.parallel import ranks

UNDER_TEST = "context_under_test"
FOUR_LAYERS = SHAPE | {"num_hidden_layers": 4, "tie_word_embeddings": False}
EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}
ROWS = (
    [5, 2, 7, 3, 2, 4],  # with 2 to 4 ranks, borders within samples and between them
    [23],  # one sample over all ranks
    [2],  # fewer tokens than ranks
    [2] * 9,
    [3, 19],
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}  # of the largest gradient


class Found(NamedTuple):
    losses: list[float]  # by row
    gradients: dict[str, Tensor]  # summed over rows
    num_computed: list[int]  # tokens, by row


def make_model(kind: str, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = FOUR_LAYERS | {"attn_implementation": attention}
    architecture: Any = LlamaForCausalLM
    config: Any = LlamaConfig
    if kind == "moe":
        architecture, config = Qwen3MoeForCausalLM, Qwen3MoeConfig
        experts = "eager" if dtype == torch.float64 else "grouped_mm"  # which has no float64
        shape |= EXPERTS | {"experts_implementation": experts}
    model: PreTrainedModel = architecture(config(**shape)).to(dtype).eval()
    return model


def make_rows() -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        pack(
            [make_sample(rng, prompt_length=1, num_tokens=n - 1, advantage=float(rng.normal())) for n in lengths],
            "grpo",
            max_completion_length=32,
            row_tokens=10**6,
        ).rows[0]
        for lengths in ROWS
    ]


def losses_of(model: PreTrainedModel, row: Row, hidden: Tensor, targets: np.ndarray, first: int = 0) -> Tensor:
    """Weight times advantage times log-probability at each target; ``hidden`` begins at token ``first`` of the row."""
    head: Any = model.get_output_embeddings()
    logits = head(hidden[torch.from_numpy(targets - 1 - first)])
    chosen = functional.cross_entropy(logits, torch.from_numpy(row.token_ids_T[targets]), reduction="none")
    return chosen * torch.from_numpy(row.weights_T * row.advantages_T)[targets].to(chosen.dtype)


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def each_alone(model: PreTrainedModel, rows: Sequence[Row]) -> Found:
    """Samples one by one, unpacked."""
    losses = []
    for row in rows:
        hidden = torch.cat(
            [
                model.base_model(input_ids=torch.from_numpy(row.token_ids_T[None, start:end]), use_cache=False)[0][0]
                for start, end in zip(row.boundaries, row.boundaries[1:], strict=False)
            ]
        )
        loss = losses_of(model, row, hidden, np.flatnonzero(row.loss_mask_T)).sum()
        loss.backward()
        losses.append(loss.item())
    return Found(losses, gradients_of(model), [len(row.token_ids_T) for row in rows])


def stretch_by_stretch(rank: int, kind: str, dtype: torch.dtype, rows: Sequence[Row], checkpointing: bool) -> Found:
    """This rank's part of each row."""
    group, size = distributed.group.WORLD, distributed.get_world_size()
    boundaries: tuple[int, ...] = ()

    def attention(_: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: object, **kwargs: Any) -> Any:
        assert mask is None
        assert group is not None
        return context_attention(query, key, value, boundaries, kwargs["scaling"], group), None

    AttentionInterface.register(UNDER_TEST, attention)
    AttentionMaskInterface.register(UNDER_TEST, lambda *args, **kwargs: None)
    model = make_model(kind, dtype, UNDER_TEST)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    losses, num_computed = [], []
    for row in rows:
        boundaries = row.boundaries
        tokens = computed(len(row.token_ids_T), rank, size)
        hidden = model.base_model(
            input_ids=torch.from_numpy(row.token_ids_T[None, tokens]),
            position_ids=torch.from_numpy(row.position_ids_T[None, tokens]),
            use_cache=False,
        )[0][0]
        loss = losses_of(model, row, hidden, np.flatnonzero(owned_tokens(row, rank, size)), tokens.start).sum()
        loss.backward()
        losses.append(loss.item())
        num_computed.append(len(hidden))
    return Found(losses, gradients_of(model), num_computed)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_sums_over_ranks_are_those_of_samples_alone(kind: str, dtype: torch.dtype, size: int) -> None:
    assert_exact(kind, dtype, size, checkpointing=False)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_recomputed_layers_gather_in_the_same_order(kind: str) -> None:
    assert_exact(kind, torch.float64, 3, checkpointing=True)


def assert_exact(kind: str, dtype: torch.dtype, size: int, *, checkpointing: bool) -> None:
    rows = make_rows()
    expected = each_alone(make_model(kind, dtype, "sdpa"), rows)
    found = ranks.run(stretch_by_stretch, size, kind, dtype, rows, checkpointing)
    tolerance = TOLERANCE[dtype]
    losses = np.sum([part.losses for part in found], axis=0)
    np.testing.assert_allclose(losses, expected.losses, rtol=tolerance, atol=tolerance * np.abs(expected.losses).max())
    for name, gradient in expected.gradients.items():
        total = sum((part.gradients[name] for part in found), torch.zeros_like(gradient))
        assert gradient.abs().max() > 0, name
        assert (total - gradient).abs().max() <= tolerance * gradient.abs().max(), name
    # none of it because every rank did all the work
    for row, lengths in enumerate(zip(*(part.num_computed for part in found), strict=True)):
        num_tokens = sum(ROWS[row])
        assert sum(lengths) == max(num_tokens, size)
        assert max(lengths) == -(-num_tokens // size)


@given(num_tokens=st.integers(0, 200), size=st.integers(1, 9))
def test_stretches_lie_end_to_end_and_are_even(num_tokens: int, size: int) -> None:
    stretches = [stretch(num_tokens, rank, size) for rank in range(size)]
    borders = [0, *(end for _, end in stretches)]
    assert [start for start, _ in stretches] == borders[:-1]
    assert borders[-1] == num_tokens
    lengths = np.diff(borders)
    assert lengths.min() >= lengths.max() - 1


@given(size=st.integers(1, 9), which=st.integers(0, len(ROWS) - 1))
def test_each_loss_token_is_owned_by_the_rank_that_has_its_logits(size: int, which: int) -> None:
    row = make_rows()[which]
    owned = np.stack([owned_tokens(row, rank, size) for rank in range(size)])
    assert (owned.sum(0) == row.loss_mask_T).all()
    for rank, token in np.argwhere(owned):
        start, end = stretch(len(row.token_ids_T), rank, size)
        assert start <= token - 1 < end
