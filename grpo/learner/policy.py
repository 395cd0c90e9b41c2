"""The policy: a transformers model that scores packed rows and names its tensors as checkpoints do.

Shapes: T packed tokens, N loss tokens among them, H hidden size, V vocabulary.
"""

import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from grpo.datatypes import Row
from grpo.errors import ModelError
from grpo.learner.attention import PACKED, packed_rows, recomputation_contexts
from grpo.learner.context import computed, owned_tokens
from grpo.learner.layout import Layout, load_parts, local, save_by_layer, stored_name
from grpo.learner.mesh import ALONE, Mesh
from grpo.learner.pipeline import Pipeline

LOGITS_AT_ONCE = 2**24  # elements of one chunk of logits: 64 MiB in fp32
HEAD_CHECK_TOLERANCE = 1e-2


class Policy:
    """A causal language model and what the learner asks of it.

    Raises:
        ModelError: the folder or id holds no causal language model that transformers can load.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        kept_in: torch.dtype | None = None,
        mesh: Mesh = ALONE,
        reload: Callable[[], "Policy"] | None = None,
    ) -> None:
        """
        Args:
            kept_in: the format whose values the weights are, where that is not what they are computed with.
            mesh: of several processes, where this one stands: ``model`` is its part.
            reload: loads another one like it.
        """
        self.model = model
        self.kept_in = kept_in or model.dtype
        self.mesh = mesh
        self.pipeline = Pipeline(model, mesh.group("pipeline")) if mesh.size("pipeline") > 1 else None
        self.layout = Layout(model, mesh, self.pipeline)
        self.head = cast(nn.Module, model.get_output_embeddings())
        self._reload = reload
        if mesh.is_alone:
            self._check_head()
        else:  # FSDP gathers a module's parameters when the module itself is called: see ``_within_model``
            model.forward = _call

    @classmethod
    def load(
        cls,
        path: str,
        *,
        dtype: torch.dtype,
        device: str,
        arithmetic: torch.dtype | None = None,
        gradient_checkpointing: bool = False,
        mesh: Mesh = ALONE,
    ) -> "Policy":
        """Weights rounded to ``dtype``, computed with in ``arithmetic`` (absent: the same); on a mesh, this part."""
        arithmetic = arithmetic or dtype
        model: Any
        if mesh.is_alone:
            model = _load_whole(path, dtype=dtype, arithmetic=arithmetic, device=device)
        else:
            model = load_parts(path, mesh, dtype=dtype, arithmetic=arithmetic, device=device)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": recomputation_contexts})
            model.train()
        reload = functools.partial(cls.load, path, dtype=dtype, device=device, arithmetic=arithmetic, mesh=mesh)
        return cls(model, dtype, mesh, reload)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def loss_dtype(self) -> torch.dtype:
        """What log-probabilities and losses are computed in: fp32, or what the model has where that is more."""
        return torch.promote_types(self.model.dtype, torch.float32)

    def frozen_copy(self) -> "Policy":
        """A reference policy: the weights as they are now, without gradient."""
        if self.mesh.is_alone:
            return Policy(copy.deepcopy(self.model).requires_grad_(False).eval(), self.kept_in)
        assert self._reload is not None, "a part of a model comes from a checkpoint"
        other = self._reload()
        other.model.requires_grad_(False)
        other.copy_from(self)
        return other

    def copy_from(self, other: "Policy") -> None:
        """Take over another policy's weights."""
        self.mix_in(other, 1.0)

    @torch.no_grad()
    def mix_in(self, other: "Policy", share: float) -> None:
        """``share`` of another policy's weights and the rest of our own; at 1 they are the other's to the bit."""
        for ours, theirs in zip(self.model.parameters(), other.model.parameters(), strict=True):
            if share == 1:
                local(ours).copy_(local(theirs))
            else:
                local(ours).lerp_(local(theirs), share)

    @torch.no_grad()
    def whole_state(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter as the model names it; on a mesh, put together from all processes' parts."""
        yield from self.layout.wholes((name, name, tensor) for name, tensor in self.model.state_dict().items())

    @torch.no_grad()
    def load_whole_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``whole_state`` gave."""
        for name, parameter in self.model.named_parameters():
            local(parameter).copy_(self.layout.part(name, tensors[stored_name(name, tensors)]))

    def owned(self, row: Row) -> npt.NDArray[np.bool_]:
        """The loss tokens of a row that this process answers for, shape (T,): all, unless a row is shared out."""
        if self.mesh.size("context") == 1:
            return row.loss_mask_T
        return owned_tokens(row, self.mesh.at("context"), self.mesh.size("context"))

    def packed(self, row: Row) -> AbstractContextManager[None]:
        """Within it, the model is given the row, or this process' stretch of it."""
        sharing = self.mesh.group("context") if self.mesh.size("context") > 1 else None
        return packed_rows(row.boundaries, sharing)

    def token_logprobs(self, row: Row, *, temperature: float, entropy_gradient: bool = False) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of each loss token of a packed row, both (N,) fp32.

        The first has a gradient, the second where it is asked for. Must run within ``packed(row)``. On a mesh, of the
        loss tokens that this process owns.
        """
        found = self._within_model(self._token_logprobs, row, temperature, entropy_gradient)
        return cast(tuple[Tensor, Tensor], found)

    def _token_logprobs(self, row: Row, temperature: float, entropy_gradient: bool) -> tuple[Tensor, Tensor]:
        targets = torch.from_numpy(np.flatnonzero(self.owned(row))).to(self.device)
        token_ids = torch.from_numpy(row.token_ids_T).to(self.device)
        positions = torch.from_numpy(row.position_ids_T).to(self.device)
        here = computed(len(token_ids), self.mesh.at("context"), self.mesh.size("context"))
        hidden_SH = self._hidden(token_ids[here], positions[here])
        hidden_NH = hidden_SH[targets - 1 - here.start]
        return self._logprobs_of(hidden_NH, token_ids[targets], temperature, entropy_gradient)

    def backward(
        self,
        rows: Sequence[Row],
        loss_of: Callable[[Row, Tensor, Tensor], Tensor],
        *,
        temperature: float,
        after_row: Callable[[], None],
        entropy_gradient: bool = False,
    ) -> None:
        """Forward and backward of each row; gradients are added to the parameters' own.

        ``loss_of`` makes a row's loss from the log-probabilities and entropies of its owned loss tokens; with a
        pipeline, on the last stage alone. ``after_row`` is called when one more row's gradients are there.
        """
        if self.pipeline is not None:

            def head(row: Row, hidden_TH: Tensor) -> Tensor:
                return loss_of(row, *self._row_logprobs(row, hidden_TH, temperature, entropy_gradient))

            self.pipeline.run(rows, head, after_row)
            return
        for row in rows:
            with self.packed(row):
                found = self.token_logprobs(row, temperature=temperature, entropy_gradient=entropy_gradient)
                loss_of(row, *found).backward()
            after_row()

    def logprobs(self, rows: Sequence[Row], *, temperature: float) -> list[npt.NDArray[np.floating[Any]]]:
        """Of each row's owned loss tokens, shapes (N,)."""
        return self._scores(rows, temperature, 0)

    def entropies(self, rows: Sequence[Row], *, temperature: float) -> list[npt.NDArray[np.floating[Any]]]:
        """Of the distributions that each row's owned loss tokens were drawn from, in nats, shapes (N,)."""
        return self._scores(rows, temperature, 1)

    @torch.no_grad()
    def _scores(self, rows: Sequence[Row], temperature: float, which: int) -> list[npt.NDArray[np.floating[Any]]]:
        if self.pipeline is not None:
            return self.pipeline.score(rows, lambda row, hidden: self._row_logprobs(row, hidden, temperature)[which])
        found = []
        for row in rows:
            with self.packed(row):
                found.append(self.token_logprobs(row, temperature=temperature)[which].cpu().numpy())
        return found

    def _row_logprobs(
        self, row: Row, hidden_TH: Tensor, temperature: float, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        targets = torch.from_numpy(np.flatnonzero(self.owned(row))).to(self.device)
        token_ids = torch.from_numpy(row.token_ids_T).to(self.device)
        return self._logprobs_of(hidden_TH[targets - 1], token_ids[targets], temperature, entropy_gradient)

    @torch.no_grad()
    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Log-probabilities at temperature 1 of tokens 1..L-1 given those before; shape (L-1,)."""
        if self.pipeline is not None:
            return self.logprobs([_text_row(token_ids)], temperature=1.0)[0].astype(np.float32)
        return cast(npt.NDArray[np.float32], self._within_model(self._score, token_ids).cpu().numpy())

    def _score(self, token_ids: Sequence[int]) -> Tensor:
        ids = torch.tensor(token_ids, device=self.device)
        with packed_rows((0, len(ids))):
            hidden_LH = self._hidden(ids, torch.arange(len(ids), device=self.device))
        return self._logprobs_of(hidden_LH[:-1], ids[1:], 1.0)[0]

    @torch.no_grad()
    def router_margin(self, token_ids: Sequence[int]) -> float:
        """Least gap, over tokens and layers, between the probabilities of the last expert chosen and the next.

        Infinite for a model without routers.
        """
        num_active = getattr(self.model.config, "num_experts_per_tok", None)
        if num_active is None:
            return math.inf
        if self.pipeline is not None:
            return self._stage_margin(token_ids, num_active)
        return cast(float, self._within_model(self._router_margin, token_ids, num_active))

    def _router_margin(self, token_ids: Sequence[int], num_active: int) -> float:
        ids = torch.tensor(token_ids, device=self.device)
        with packed_rows((0, len(ids))):
            output = self.model.base_model(
                input_ids=ids[None],
                position_ids=torch.arange(len(ids), device=self.device)[None],
                use_cache=False,
                output_router_logits=True,
            )
        return min(_gap(logits, num_active) for logits in output.router_logits)

    def _stage_margin(self, token_ids: Sequence[int], num_active: int) -> float:
        """The least over all stages, each of which sees its own routers as the text passes through."""
        gaps: list[float] = []
        routers: list[Any] = [module.gate for module in self.model.modules() if hasattr(module, "experts")]
        hooks = [
            router.register_forward_hook(lambda _router, _args, output: gaps.append(_gap(output[0], num_active)))
            for router in routers
        ]
        try:
            self.logprobs([_text_row(token_ids)], temperature=1.0)
        finally:
            for hook in hooks:
                hook.remove()
        return min(itertools.chain(gaps, itertools.chain.from_iterable(self.mesh.gather_all(gaps))))

    @torch.no_grad()
    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight under its checkpoint name, layer by layer: experts one by one, a tied head included.

        In the format that it is kept in, which loses nothing and is half of what fp32 arithmetic has of bf16 weights.
        On a mesh all processes must go through it together; each gets the whole of one layer at a time.
        """
        state = self.model.state_dict()  # lists a tied head under its own name too
        wholes = self.layout.wholes((name, name, tensor) for name, tensor in state.items())
        for _, group in itertools.groupby(wholes, key=lambda named: _layer_of(named[0])):
            for name, tensor in revert_weight_conversion(self.model, dict(group)).items():
                yield name, tensor.to(self.kept_in)

    def save(self, folder: Path) -> None:
        """Write the model as transformers and ``vllm serve`` load it, in the format that it is kept in."""
        if not self.mesh.is_alone:
            save_by_layer(self.named_tensors(), self.model, folder, writes=self.mesh.rank == 0)
            return
        computed_in = self.model.dtype
        self._cast(self.kept_in)  # which loses nothing: their values are of that format
        try:
            self.model.save_pretrained(folder)
        finally:
            self._cast(computed_in)

    def _cast(self, dtype: torch.dtype) -> None:
        """Parameters alone: buffers, such as rotary frequencies, would lose digits on the way."""
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)

    def _within_model(self, function: Callable[..., Any], *args: object) -> Any:
        """Call the function while the model's own parameters (embedding, norm, head) are there as a whole."""
        return function(*args) if self.mesh.is_alone else self.model(function, *args)

    def _hidden(self, token_ids_T: Tensor, positions_T: Tensor) -> Tensor:
        output = self.model.base_model(
            input_ids=token_ids_T[None], position_ids=positions_T[None], use_cache=False
        ).last_hidden_state[0]
        return cast(Tensor, output)

    def _logprobs_of(
        self, hidden_NH: Tensor, targets_N: Tensor, temperature: float, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The head is applied in chunks, recomputed on the way back, so that (N, V) logits never stand whole."""
        chunk = max(1, LOGITS_AT_ONCE // self.model.config.vocab_size)
        head = functools.partial(self._head_logprobs, temperature=temperature, entropy_gradient=entropy_gradient)
        if len(targets_N) > chunk and torch.is_grad_enabled():
            head = functools.partial(checkpoint, head, use_reentrant=False)
        parts = zip(hidden_NH.split(chunk), targets_N.split(chunk), strict=True)
        logprobs, entropies = zip(*(head(hidden, targets) for hidden, targets in parts), strict=True)
        return torch.cat(logprobs), torch.cat(entropies)

    def _head_logprobs(
        self, hidden_NH: Tensor, targets_N: Tensor, *, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        logits_NV = self.head(hidden_NH).to(self.loss_dtype) / temperature
        logprobs = -functional.cross_entropy(logits_NV, targets_N, reduction="none")
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            distribution = torch.log_softmax(logits_NV, dim=-1)
            entropy = -(distribution.exp() * distribution).sum(-1)
        return logprobs, entropy

    @torch.no_grad()
    def _check_head(self) -> None:
        """Some models scale or cap their logits after the head, which this class would miss."""
        ids = torch.arange(4, device=self.device)
        whole = self.model(input_ids=ids[None], use_cache=False).logits[0].float()
        with packed_rows((0, 4)):
            ours = self.head(self._hidden(ids, torch.arange(4, device=self.device))).float()
        if not torch.allclose(whole, ours, atol=HEAD_CHECK_TOLERANCE * float(whole.abs().max())):
            raise ModelError(
                f"{type(self.model).__name__} changes its logits after the output embedding (scaling or a cap), "
                "which the learner does not reproduce: use a model of another architecture"
            )


def _call(function: Callable[..., Any], *args: object) -> Any:
    return function(*args)


def _load_whole(path: str, *, dtype: torch.dtype, arithmetic: torch.dtype, device: str) -> PreTrainedModel:
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=arithmetic, attn_implementation=PACKED)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {path!r} cannot be loaded as a causal language model: {error}") from error
    if arithmetic is not dtype:
        for parameter in model.parameters():
            parameter.data.copy_(parameter.data.to(dtype))
    model.to(torch.device(device))
    return cast(PreTrainedModel, model.eval())  # no dropout: the learner must score as the engine samples


def _layer_of(name: str) -> str:
    """Of which decoder layer a tensor is, so that converting one group never copies the whole model."""
    parts = name.split(".")
    return next((".".join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit()), "")


def _gap(logits_TE: Tensor, num_active: int) -> float:
    """Between the probabilities of the last expert chosen and the first one not, over tokens."""
    ranked = logits_TE.float().softmax(-1).sort(-1, descending=True).values
    return float((ranked[:, num_active - 1] - ranked[:, num_active]).min())


def _text_row(token_ids: Sequence[int]) -> Row:
    """A text of which every token but the first is scored."""
    num_tokens = len(token_ids)
    return Row(
        members=(0,),
        boundaries=(0, num_tokens),
        token_ids_T=np.array(token_ids, np.int64),
        position_ids_T=np.arange(num_tokens),
        loss_mask_T=np.arange(num_tokens) > 0,
        weights_T=np.zeros(num_tokens),
        advantages_T=np.zeros(num_tokens),
        behavior_logprobs_T=np.zeros(num_tokens, np.float32),
        old_logprobs_T=None,
    )
