"""What one process of the learner holds, from the sizes under ``parallel``.

    parameters, gradients, master copy, moments    of its pipeline stage, / tensor where cut, / shard
    activations                                    of its stage's layers, of its stretch of the row, / tensor where cut

Formulas use H for the hidden size, V for the vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from grpo.memory.part import ITEM_BYTES, Part
from grpo.model_shape import ModelShape
from grpo.recipe import Recipe

LOGITS_AT_ONCE = 2**24  # the learner applies the head in chunks of so many logits
LARGE_BYTES = 2**20  # of tensors that several learner processes have mapped by themselves


@dataclass(frozen=True, slots=True)
class Stage:
    """The layers of one pipeline stage, and parameters as one process has them before they are sharded."""

    shape: ModelShape
    recipe: Recipe
    index: int

    @property
    def num_layers(self) -> int:
        return -(-self.shape.num_layers // self.recipe.parallel.pipeline)

    @property
    def is_last(self) -> bool:
        return self.index == self.recipe.parallel.pipeline - 1

    @property
    def has_embedding(self) -> bool:
        return self.index == 0 or (self.is_last and self.shape.tied)

    @property
    def rows_alive(self) -> int:
        """Rows whose activations wait for their backward pass: one for each stage from here on."""
        return self.recipe.parallel.pipeline - self.index

    @property
    def embedding(self) -> int:
        return self.shape.vocab_size * self.shape.hidden_size

    @property
    def outer(self) -> int:
        """Parameters outside the layers: embedding, head and last norm, which no dimension but shard divides."""
        head = self.embedding if self.is_last and not (self.shape.tied and self.has_embedding) else 0
        return (self.embedding if self.has_embedding else 0) + head + (self.shape.hidden_size if self.is_last else 0)

    @property
    def layer(self) -> int:
        """Parameters of one layer, after the tensor dimension has cut it; norms and the router stay whole."""
        shape = self.shape
        whole = shape.num_parameters - self.embedding * (1 if shape.tied else 2) - shape.hidden_size
        uncut = 2 * shape.hidden_size + shape.num_experts * shape.hidden_size
        uncut += 2 * shape.head_dim if shape.model_type.startswith("qwen3") else 0
        return (whole // shape.num_layers - uncut) // self.recipe.parallel.tensor + uncut

    @property
    def num_parameters(self) -> int:
        return self.outer + self.num_layers * self.layer


def learner_parts(recipe: Recipe, shape: ModelShape) -> tuple[Part, ...]:
    """The parts of the fullest process; with a pipeline that is the first stage or the last."""
    stages = {0, recipe.parallel.pipeline - 1}
    accounts = [tuple(_stage_parts(Stage(shape, recipe, index))) for index in sorted(stages)]
    return max(accounts, key=lambda parts: sum(part.num_bytes for part in parts if part.phase != "publishing"))


def row_bytes(recipe: Recipe, shape: ModelShape) -> float:
    """What the layers of one process keep of one packed row, none of them checkpointed."""
    tokens = -(-recipe.learner.row_tokens // recipe.parallel.context)
    return tokens * Stage(shape, recipe, 0).num_layers * layer_bytes_per_token(shape, recipe)


def has_large_tensors(recipe: Recipe, shape: ModelShape) -> bool:
    """Whether what layers keep of a row comes, keys and values aside, in tensors that learners of several processes
    have the C library give back at once (``grpo.allocator``)."""
    tokens = -(-recipe.learner.row_tokens // recipe.parallel.context)
    width = min(shape.hidden_size, shape.head_dim * shape.num_heads // recipe.parallel.tensor)
    return tokens * width * ITEM_BYTES[recipe.learner.dtype] >= LARGE_BYTES


def _stage_parts(stage: Stage) -> Iterator[Part]:
    yield from _state(stage)
    if stage.recipe.parallel.shard > 1:
        yield _gathered(stage)
    yield _activations(stage)
    if stage.is_last:
        yield _head(stage)
    yield _publish_bucket(stage)


def _state(stage: Stage) -> Iterator[Part]:
    """Kept from step to step, but for the gradients, which the planner takes to be there while a row is learned."""
    dtype, shards = stage.recipe.learner.dtype, stage.recipe.parallel.shard
    each, count = ITEM_BYTES[dtype], stage.num_parameters
    over = f" / {shards} shards" if shards > 1 else ""

    def state(name: str, item_bytes: int, *, learning: bool = False) -> Part:
        return Part(
            name=name,
            formula=f"{count:,} x {item_bytes} bytes{over}",
            num_bytes=count * item_bytes / shards,
            phase="learning" if learning else "always",
        )

    offloaded = stage.recipe.learner.offload_optimizer and stage.recipe.num_gpus > 0
    yield state(f"parameters ({dtype})", each)
    if dtype == "float32":
        yield state("gradients (float32)", 4, learning=True)
    elif offloaded:
        yield state("gradients (bfloat16; their float32 sum is in the machine's memory)", each, learning=True)
    else:
        yield state("gradients (bfloat16 of one row, float32 sum)", each + 4, learning=True)
        yield state("master copy (float32)", 4)
    if not offloaded:
        yield state("AdamW moments (2 x float32)", 8)
    if stage.recipe.algorithm.beta:
        yield state(f"reference copy ({dtype}, beta > 0)", each)


def _gathered(stage: Stage) -> Part:
    """FSDP2 (arXiv 2304.11277): what is outside the layers is whole throughout a row (the gradient of the head is
    among the head's own parts); of the layers, the one at work and the next are, and the gradients of one."""
    each = ITEM_BYTES[stage.recipe.learner.dtype]
    count = stage.outer + 3 * stage.layer
    return Part(
        name="parameters gathered whole",
        formula=f"about ({stage.outer:,} outside the layers + 3 x {stage.layer:,} of one) x {each} bytes",
        num_bytes=count * each,
        phase="learning",
    )


def _activations(stage: Stage) -> Part:
    """Of the rows whose backward pass is still to come."""
    parallel, learner = stage.recipe.parallel, stage.recipe.learner
    tokens = -(-learner.row_tokens // parallel.context)
    rows = f"{stage.rows_alive} rows x " if stage.rows_alive > 1 else ""
    layer, each = layer_bytes_per_token(stage.shape, stage.recipe), ITEM_BYTES[learner.dtype]
    if not learner.gradient_checkpointing:
        return Part(
            name="activations of one packed row",
            formula=f"{rows}{tokens:,} tokens x {stage.num_layers} layers x {layer:,.0f} bytes",
            num_bytes=stage.rows_alive * tokens * stage.num_layers * layer,
            phase="learning",
        )
    kept = stage.shape.hidden_size * each
    return Part(
        name="activations of one packed row, checkpointed",
        formula=f"{tokens:,} tokens x ({rows}{stage.num_layers} layers x {kept:,} + {layer:,.0f} bytes)",
        num_bytes=tokens * (stage.rows_alive * stage.num_layers * kept + layer),
        phase="learning",
    )


def layer_bytes_per_token(shape: ModelShape, recipe: Recipe) -> float:
    """Bytes that one decoder layer keeps of one token for its backward pass.

    Norms keep their input in fp32 and what it was normalized to; attention its queries, output (as its own result and
    as the input of the product after it), keys and values, those of the whole row under context parallelism; the gated
    MLP four tensors of its width; experts a copy of the token for each that it goes to.
    """
    each, parallel = ITEM_BYTES[recipe.learner.dtype], recipe.parallel
    hidden, tensor = shape.hidden_size, parallel.tensor
    query, key = shape.head_dim * shape.num_heads / tensor, shape.head_dim * shape.num_kv_heads / tensor
    normalized = 2 * hidden + (query + key if shape.model_type.startswith("qwen3") else 0)
    attention = 3 * query + 2 * key * parallel.context
    mlp = 4 * shape.intermediate_size / tensor
    if shape.num_experts:
        mlp = shape.experts_per_token * (mlp + 2 * hidden)
    # of each norm: input (fp32), normalized input, and for those of the layer their output
    return normalized * (4 + each) + 2 * hidden * each + (attention + mlp) * each


def _head(stage: Stage) -> Part:
    """Logits of one chunk at the fullest moment: forward, with distribution, exponential and product, or backward,
    with the gradient of the head's weight beside the sum of those of earlier chunks."""
    learner = stage.recipe.learner
    each = ITEM_BYTES[learner.dtype]
    tokens = -(-learner.row_tokens // stage.recipe.parallel.context)
    logits = min(LOGITS_AT_ONCE, tokens * stage.shape.vocab_size)
    forward, backward = logits * 16, logits * 8 + 2 * stage.embedding * each
    formula = f"{logits:,} x 4 x 4 bytes"
    if backward > forward:
        formula = f"{logits:,} x 2 x 4 + 2 x {stage.embedding:,} x {each} bytes"
    return Part(
        name="logits of one chunk, gradient of the head",
        formula=formula,
        num_bytes=max(forward, backward),
        phase="learning",
    )


def _publish_bucket(stage: Stage) -> Part:
    """Weights are published one layer at a time: gathered, and laid out under the names that checkpoints have."""
    shape, each = stage.shape, ITEM_BYTES[stage.recipe.learner.dtype]
    outside = stage.embedding * (1 if shape.tied else 2)
    layer = (shape.num_parameters - outside - shape.hidden_size) // shape.num_layers
    largest = max(layer, stage.embedding)
    return Part(
        name="publish bucket",
        formula=f"2 x {largest:,} (the largest of a layer and the embedding) x {each} bytes",
        num_bytes=2 * largest * each,
        phase="publishing",
    )
