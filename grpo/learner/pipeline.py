"""Pipeline parallelism: each rank, a stage, has some consecutive decoder layers, and rows pass through all of them.

The schedule is 1F1B (PipeDream-Flush, arXiv 2006.09503; its order of messages as in Megatron-LM, arXiv 2104.04473):
a stage goes ahead by as many rows as there are stages after it, then does one row's backward for each forward, so that
stage r of P keeps the activations of at most P - r rows. With n rows a stage waits (P - 1) / (n + P - 1) of the time.

It is our own because torch's schedules take micro-batches of one shape: their receive buffers are made once, after the
first. In torch 2.13 a longer second row ends in gloo's abort, and a shorter one goes on in the longer one's shape
without a word. Packed rows all differ; both sides know their lengths, so no shape needs to be sent.

Shapes: T tokens of a row, H hidden size.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel

from grpo.datatypes import Row
from grpo.errors import ModelError
from grpo.learner.attention import packed_rows
from grpo.learner.context import stretch

Head = Callable[[Row, Tensor], Tensor]


class Elsewhere(nn.Module):
    """Stands where another stage has a part of the model: what comes in goes out."""

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden


def keep_stage(model: PreTrainedModel, rank: int, size: int) -> None:
    """Drop from a model, in place, what stages other than ``rank`` of ``size`` have; all else keeps its name.

    The first stage has the embedding, the last one the final norm and the head, each a share of the layers, as even as
    can be, the larger ones first. A head tied to the embedding is a parameter of its own from here on: ``Pipeline``
    says how the two stay one. A model whose parameters are not loaded yet (on ``meta``) will do, too.

    The model must hand its embeddings to its first layer as they are (its ``inputs_embeds``), as Llama, Mistral and
    Qwen do: a stage's input comes in by that door.

    Raises:
        ModelError: there are more stages than layers.
    """
    base: Any = model.base_model
    num_layers = len(base.layers)
    if size > num_layers:
        raise ModelError(
            f"parallel.pipeline = {size}, but the model has {num_layers} layers: set it to at most {num_layers}"
        )
    start, end = stretch(num_layers, rank, size)
    for index in range(num_layers):
        if not start <= index < end:
            base.layers[index] = Elsewhere()
    if rank > 0:
        base.embed_tokens = Elsewhere()
    if rank < size - 1:
        base.norm = Elsewhere()
        model.set_output_embeddings(Elsewhere())


class Pipeline:
    """One rank's stage of a model, and the passing of rows through all stages.

    Every rank of the group must make the same calls with the same rows. Where the head is tied to the embedding, first
    and last stage each have a copy, ``tied``: ``sum_tied`` gives both the same gradient before an optimizer steps, so
    that they stay equal to the bit; a gradient norm over stages must count one of the two.
    """

    def __init__(self, model: PreTrainedModel, group: dist.ProcessGroup) -> None:
        """``model``: the same on every rank; only this rank's stage of it is kept (``keep_stage``)."""
        self._group = group
        self._rank, self._size = group.rank(), group.size()
        keep_stage(model, self._rank, self._size)
        self.model = model

    @property
    def is_first(self) -> bool:
        return self._rank == 0

    @property
    def is_last(self) -> bool:
        return self._rank == self._size - 1

    @property
    def tied(self) -> nn.Parameter | None:
        """This stage's copy of a parameter that is embedding and head in one, if there are two copies."""
        if self._size == 1 or not self.model.config.tie_word_embeddings or not (self.is_first or self.is_last):
            return None
        owner: Any = self.model.get_input_embeddings() if self.is_first else self.model.get_output_embeddings()
        return cast(nn.Parameter, owner.weight)

    def run(self, rows: Sequence[Row], forward_head: Head, after_backward: Callable[[], None] = lambda: None) -> None:
        """Forward and backward of all rows, in their order; gradients are added to the parameters' own.

        Args:
            forward_head: on the last stage, the loss (a scalar) of a row from its last hidden states (T, H).
            after_backward: called when the gradients of one more row have been added.
        """
        alive: deque[_Alive] = deque()
        previous, following, num_rows = self._rank - 1, self._rank + 1, len(rows)
        num_ahead = min(self._size - following, num_rows)

        def forward(row: Row, given: Tensor | None) -> Tensor:
            given = None if given is None else given.requires_grad_()
            alive.append(_Alive(given, self._forward(row, given, forward_head)))
            return alive[-1].output

        def backward(gradient: Tensor | None) -> Tensor | None:
            given = alive.popleft().backward(gradient)
            after_backward()
            return given

        for row in rows[:num_ahead]:
            self._exchange(following, forward(row, self._exchange(previous, None, row)), None)
        given = self._exchange(previous, None, rows[num_ahead]) if num_ahead < num_rows else None
        for index in range(num_ahead, num_rows):
            gradient = self._exchange(following, forward(rows[index], given), rows[index - num_ahead])
            following_row = rows[index + 1] if index + 1 < num_rows else None
            given = self._exchange(previous, backward(gradient), following_row)
        for row in rows[num_rows - num_ahead :]:
            self._exchange(previous, backward(self._exchange(following, None, row)), None)

    @torch.no_grad()
    def score(self, rows: Sequence[Row], forward_head: Head) -> list[npt.NDArray[Any]]:
        """What ``forward_head`` makes of each row's last hidden states on the last stage; the same list everywhere."""
        scores: list[npt.NDArray[Any]] = []
        for row in rows:
            output = self._forward(row, self._exchange(self._rank - 1, None, row), forward_head)
            self._exchange(self._rank + 1, output, None)
            if self.is_last:
                scores.append(np.asarray(output.cpu()))
        shared = [scores]
        dist.broadcast_object_list(shared, group=self._group, group_src=self._size - 1)
        return shared[0]

    @torch.no_grad()
    def sum_tied(self, gradient: Tensor) -> None:
        """Add to one copy's gradient, in place, the other's. On a stage that has no copy: nothing."""
        if self.tied is None:
            return
        other = torch.empty_like(gradient)
        self._send_and_receive(self._size - 1 if self.is_first else 0, gradient, other)
        gradient += other

    def _forward(self, row: Row, given: Tensor | None, forward_head: Head) -> Tensor:
        """Hidden states for the next stage, (T, H); on the last, what the head makes of them."""
        model, device = self.model, self.model.device
        taken = {"inputs_embeds": given[None]} if given is not None else {"input_ids": _on(device, row.token_ids_T)}
        with packed_rows(row.boundaries):
            hidden_TH = model.base_model(
                position_ids=_on(device, row.position_ids_T), use_cache=False, **taken
            ).last_hidden_state[0]
            return forward_head(row, hidden_TH) if self.is_last else cast(Tensor, hidden_TH)

    def _exchange(self, peer: int, sent: Tensor | None, expected: Row | None) -> Tensor | None:
        """Send to a neighbouring stage, and receive from it a row's hidden states or their gradient, at one time.

        Sending and receiving apart would block both when each of them sends. Beyond either end there is no neighbour:
        nothing is sent, and None received.
        """
        if not 0 <= peer < self._size:
            return None
        received = None
        if expected is not None:
            shape = (len(expected.token_ids_T), self.model.config.hidden_size)
            received = torch.empty(shape, dtype=self.model.dtype, device=self.model.device)
        self._send_and_receive(peer, sent, received)
        return received

    def _send_and_receive(self, peer: int, sent: Tensor | None, received: Tensor | None) -> None:
        messages = []
        if sent is not None:
            messages.append(dist.P2POp(dist.isend, sent.detach().contiguous(), group=self._group, group_peer=peer))
        if received is not None:
            messages.append(dist.P2POp(dist.irecv, received, group=self._group, group_peer=peer))
        for work in dist.batch_isend_irecv(messages) if messages else ():
            work.wait()


class _Alive(NamedTuple):
    """A row between its forward and its backward."""

    given: Tensor | None  # from the stage before
    output: Tensor  # hidden states, or the loss

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """From the gradient of the output (of a loss: None) to that of what was given."""
        torch.autograd.backward(self.output, gradient)
        return None if self.given is None else self.given.grad


def _on(device: torch.device, values_T: npt.NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(values_T).to(device)[None]
