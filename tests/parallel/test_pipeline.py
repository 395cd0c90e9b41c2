"""A model cut into stages: scores, loss, gradient and weights are those of the whole model in one process."""

import gc
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, distributed
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from grpo.datatypes import Row
from grpo.errors import ModelError
from grpo.learner.attention import PACKED, recomputation_contexts
from grpo.learner.pipeline import Pipeline, keep_stage
from tests.parallel import ranks
from tests.parallel.test_context import (
    EXPERTS,
    FOUR_LAYERS,
    TOLERANCE,
    each_alone,
    gradients_of,
    losses_of,
    make_rows,
)

NUM_LAYERS = 4
NUM_UPDATES = 3
SEVEN_ROWS = [*make_rows(), *make_rows()[:2]]
TIED = {"tie_word_embeddings": True}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama tied": (LlamaForCausalLM, LlamaConfig, TIED),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 64}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, TIED | {"use_sliding_window": True, "sliding_window": 64}),
    "qwen3 moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig, EXPERTS | TIED),
}


class Stage(NamedTuple):
    """What one rank has after its work."""

    losses: list[float]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    most_alive: int  # rows whose forward was done, and their backward not


def make_model(kind: str, dtype: torch.dtype, attention: str = PACKED) -> PreTrainedModel:
    architecture, config, more = KINDS[kind]
    if "moe" in kind:
        more = more | {"experts_implementation": "eager" if dtype == torch.float64 else "grouped_mm"}
    torch.manual_seed(0)
    model: PreTrainedModel = (
        architecture(config(**(FOUR_LAYERS | more), attn_implementation=attention)).to(dtype).eval()
    )
    return model


def make_pipeline(kind: str, dtype: torch.dtype) -> Pipeline:
    assert distributed.group.WORLD is not None
    return Pipeline(make_model(kind, dtype), distributed.group.WORLD)


def losses_from(model: PreTrainedModel, row: Row, hidden: Tensor) -> Tensor:
    return losses_of(model, row, hidden, np.flatnonzero(row.loss_mask_T))


def learn_a_stage(
    _: int, kind: str, dtype: torch.dtype, rows: Sequence[Row], num_updates: int, checkpointing: bool
) -> Stage:
    pipeline = make_pipeline(kind, dtype)
    model: Any = pipeline.model
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": recomputation_contexts})
        model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    alive = [0]

    def forward_head(row: Row, hidden: Tensor) -> Tensor:
        loss = losses_from(model, row, hidden).sum()
        losses.append(loss.item())
        return loss

    model.base_model.register_forward_hook(lambda *_: alive.append(alive[-1] + 1))
    for update in range(num_updates):
        optimizer.zero_grad()
        pipeline.run(rows, forward_head, after_backward=lambda: alive.append(alive[-1] - 1))
        if pipeline.tied is not None and pipeline.tied.grad is not None:
            pipeline.sum_tied(pipeline.tied.grad)
        if update < num_updates - 1:
            optimizer.step()
    gradients = {name: gradient.clone() for name, gradient in gradients_of(model).items()}
    optimizer.step()
    return Stage(losses, gradients, dict(model.named_parameters()), max(alive))


def learn_in_one_process(kind: str, dtype: torch.dtype, rows: Sequence[Row], num_updates: int) -> Stage:
    model: Any = make_model(kind, dtype, "sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for update in range(num_updates):
        optimizer.zero_grad()
        losses += each_alone(model, rows).losses
        if update < num_updates - 1:
            optimizer.step()
    gradients = {name: gradient.clone() for name, gradient in gradients_of(model).items()}
    optimizer.step()
    return Stage(losses, gradients, dict(model.named_parameters()), 1)


def assert_exact(
    kind: str,
    dtype: torch.dtype,
    size: int,
    rows: Sequence[Row] = SEVEN_ROWS,
    *,
    num_updates: int = 1,
    checkpointing: bool = False,
) -> list[Stage]:
    """Compares a pipeline with one process; returns its stages."""
    expected = learn_in_one_process(kind, dtype, rows, num_updates)
    stages = ranks.run(learn_a_stage, size, kind, dtype, list(rows), num_updates, checkpointing)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(stages[-1].losses, expected.losses, rtol=tolerance, atol=tolerance)
    for name, gradient in expected.gradients.items():
        (holder,) = (stage for stage in stages if name in stage.gradients)  # no two stages have it
        scale = float(gradient.abs().max())
        assert scale > 0, name
        assert float((holder.gradients[name] - gradient).abs().max()) <= tolerance * scale, name
        if dtype == torch.float64:
            assert float((holder.weights[name] - expected.weights[name]).detach().abs().max()) <= tolerance, name
    return stages


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_stages_learn_as_one_process(kind: str, size: int) -> None:
    stages = assert_exact(kind, torch.float64, size)
    assert [stage.most_alive for stage in stages] == [size - rank for rank in range(size)]


@pytest.mark.parametrize("kind", ["llama tied", "qwen3 moe"])
def test_stages_learn_as_one_process_in_fp32(kind: str) -> None:
    assert_exact(kind, torch.float32, 2)


@pytest.mark.parametrize("size", [3, 4])
def test_layers_that_do_not_divide_and_fewer_rows_than_stages(size: int) -> None:
    assert_exact("llama", torch.float64, size, SEVEN_ROWS[:2])


def test_recomputed_layers() -> None:
    assert_exact("qwen3 moe", torch.float64, 2, checkpointing=True)


@pytest.mark.parametrize("size", [2, 4])
def test_both_copies_of_a_tied_parameter_stay_equal_to_the_bit(size: int) -> None:
    stages = assert_exact("llama tied", torch.float64, size, num_updates=NUM_UPDATES)
    embedding, head = stages[0].weights["model.embed_tokens.weight"], stages[-1].weights["lm_head.weight"]
    assert torch.equal(embedding, head)
    start = dict(make_model("llama tied", torch.float64).named_parameters())["model.embed_tokens.weight"]
    assert not torch.equal(embedding, start)


def score_twice(_: int, kind: str, rows: Sequence[Row]) -> list[list[np.ndarray]]:
    pipeline = make_pipeline(kind, torch.float64)
    return [pipeline.score(part, lambda row, hidden: losses_from(pipeline.model, row, hidden)) for part in (rows, [])]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_rank_gets_the_scores_of_the_whole_model(size: int) -> None:
    rows = make_rows()
    expected = each_alone(make_model("qwen3 moe", torch.float64, "sdpa"), rows).losses
    for scores, of_no_rows in ranks.run(score_twice, size, "qwen3 moe", rows):
        np.testing.assert_allclose([score.sum() for score in scores], expected, rtol=1e-9)
        assert [len(score) for score in scores] == [int(row.loss_mask_T.sum()) for row in rows]
        assert of_no_rows == []


@pytest.mark.parametrize("size", [1, 3])
def test_no_rows_leave_no_gradient(size: int) -> None:
    for stage in ranks.run(learn_a_stage, size, "llama", torch.float64, [], 1, False):
        assert stage.losses == []
        assert not any(gradient.any() for gradient in stage.gradients.values())


@pytest.mark.parametrize("kind", ["llama", "llama tied"])
def test_a_stage_holds_its_own_parameters_and_no_others(kind: str) -> None:
    held = []
    for rank in range(3):
        model = make_model(kind, torch.float64)
        whole = {name: weakref.ref(p) for name, p in model.named_parameters(remove_duplicate=False)}
        keep_stage(model, rank, 3)
        gc.collect()
        left = dict(model.named_parameters(remove_duplicate=False))
        assert {id(p) for p in left.values()} == {id(ref()) for ref in whole.values() if ref() is not None}
        held.append({name for name, ref in whole.items() if name in left})
    layers = [{int(name.split(".")[2]) for name in names if ".layers." in name} for names in held]
    assert layers == [{0, 1}, {2}, {3}]
    apart = [{name for name in names if ".layers." not in name} for names in held]
    assert apart == [{"model.embed_tokens.weight"}, set(), {"model.norm.weight", "lm_head.weight"}]


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(ModelError, match=r"parallel\.pipeline = 5, but the model has 4 layers"):
        keep_stage(make_model("llama", torch.float32), 0, 5)
