"""Sampling with the learner's own model: slower than vLLM, needs nothing but transformers, and cannot be stale.

Answers are drawn by a sampler of our own, so that each follows from its request's seed alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from grpo.datatypes import Completion, FinishReason, Segment
from grpo.engine.protocol import Request, Sampling, check_fits
from grpo.errors import EngineError
from grpo.recipe import Rollout
from grpo.weights import Receipt, Tensors, fingerprint

NEVER = float("-inf")
MAX_BYTES_PER_TOKEN = 8  # of the tokens that can hold the end of a stop text


class TransformersEngine:
    """Implements `grpo.engine.protocol.Engine` on the learner's live module; nothing is copied.

    Args:
        model: the learner's causal language model.
        rollout: the recipe's section; ``max_num_seqs`` bounds a batch.
        decode: tokens to text.
        max_model_len: prompt and answer together, tokens; absent: the model's own limit.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        rollout: Rollout,
        decode: Callable[[Sequence[int]], str],
        max_model_len: int | None = None,
    ) -> None:
        assert isinstance(model, PreTrainedModel), "the learner's module is a transformers model"
        self.version = 0
        self._model, self._decode = model, decode
        self._max_num_seqs = rollout.max_num_seqs
        limit = getattr(model.config, "max_position_embeddings", None)
        self._window = min(bound for bound in (max_model_len, limit, 2**31) if bound is not None)

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield each answer as it finishes; see `grpo.engine.protocol.Engine`.

        Batches are formed from the requests' own contents, so their order changes no answer, not even by rounding.

        Raises:
            EngineError: a prompt does not fit the window.
        """
        for request in requests:
            check_fits(request, self._window)
        return self._drive(sorted(requests, key=_canonical))

    def _drive(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for start in range(0, len(requests), self._max_num_seqs):
            yield from self._sample_batch(requests[start : start + self._max_num_seqs])

    def _sample_batch(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Decode left-padded rows together; rows that have ended leave once they are half of the batch."""
        answers = [Answer.start(request, self._window) for request in requests]
        rows = list(range(len(answers)))
        width = max(len(request.prompt.token_ids) for request in requests)
        device = self._model.device
        next_ids = torch.zeros(len(rows), width, dtype=torch.long, device=device)
        mask = torch.zeros(len(rows), width, dtype=torch.long, device=device)
        for row, request in enumerate(requests):
            prompt = torch.tensor(request.prompt.token_ids, device=device)
            next_ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = prompt, 1
        cache = DynamicCache(config=self._model.config)
        while rows:
            logits_RV = self._forward(next_ids, mask, cache)
            chosen, ended = self._choose(logits_RV, [answers[row] for row in rows])
            yield from (self._completion(answer) for answer in ended)
            next_ids = chosen[:, None].to(device)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            alive = [place for place, row in enumerate(rows) if answers[row].finish_reason is None]
            if 2 * len(alive) <= len(rows):
                kept = torch.tensor(alive, dtype=torch.long, device=device)
                next_ids, mask = next_ids[kept], mask[kept]
                cache.batch_select_indices(kept)
                rows = [rows[place] for place in alive]

    def _forward(self, next_ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Logits after the last of ``next_ids``, in float32; shape (R, V)."""
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -next_ids.shape[1] :]
        with _inference(self._model):
            output = self._model(
                input_ids=next_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits_RV: torch.Tensor = output.logits[:, -1]
        return logits_RV.float().cpu()

    def _choose(self, logits_RV: torch.Tensor, answers: Sequence["Answer"]) -> tuple[torch.Tensor, list["Answer"]]:
        """One token a row, appended to its answer; the rows' tokens, and the answers that just ended."""
        chosen = torch.zeros(len(answers), dtype=torch.long)
        by_sampling: dict[tuple[float, float, int], list[int]] = {}
        for row, answer in enumerate(answers):
            if answer.finish_reason is None:
                by_sampling.setdefault(_filters(answer.request.sampling), []).append(row)
        for filters, members in by_sampling.items():
            uniforms = torch.stack([answers[row].next_uniform() for row in members])
            tokens, logprobs = draw(logits_RV[members], uniforms, *filters)
            chosen[members] = tokens
            for row, token, logprob in zip(members, tokens.tolist(), logprobs.tolist(), strict=True):
                answers[row].append(token, logprob, self._decode)
        moved = {row for members in by_sampling.values() for row in members}
        return chosen, [answers[row] for row in sorted(moved) if answers[row].finish_reason is not None]

    def _completion(self, answer: "Answer") -> Completion:
        assert answer.finish_reason is not None
        return Completion(
            prompt=answer.request.prompt,
            sample_index=answer.request.sample_index,
            segments=(
                Segment(
                    token_ids=np.array(answer.token_ids, dtype=np.int64),
                    behavior_logprobs=np.array(answer.logprobs, dtype=np.float32),
                    version=self.version,
                ),
            ),
            finish_reason=answer.finish_reason,
            text=self._decode(answer.token_ids),
        )

    def load(self, tensors: Tensors, version: int) -> Receipt:
        """Take note of the version: the weights are the learner's own. Names and bytes are still checked."""
        hashes = {name: fingerprint(tensor) for name, tensor in tensors}
        missed = tuple(name for name in checkpoint_names(self._model) if name not in hashes)
        self.version = version
        return Receipt(version=version, hashes=hashes, missed=missed)

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Log-probabilities at temperature 1 of tokens 1..L-1; shape (L-1,).

        Raises:
            EngineError: the text is empty or does not fit the window.
        """
        if not 0 < len(token_ids) <= self._window:
            raise EngineError(f"cannot score {len(token_ids)} tokens; allowed are 1 to {self._window}")
        ids = torch.tensor([list(token_ids)], device=self._model.device)
        with _inference(self._model):
            logits_LV = self._model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        chosen = logits_LV.log_softmax(dim=-1).gather(-1, ids[0, 1:, None])[:, 0]
        return np.asarray(chosen.cpu().numpy(), dtype=np.float32)

    def close(self) -> None:
        """Nothing to free: the model is the learner's."""


@dataclass(slots=True)
class Answer:
    """An answer in the making."""

    request: Request
    uniforms: torch.Tensor  # one draw in [0, 1) for each token it may have, from the request's seed
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason | None = None

    @staticmethod
    def start(request: Request, window: int) -> "Answer":
        limit = min(request.sampling.max_tokens, window - len(request.prompt.token_ids))
        generator = torch.Generator().manual_seed(request.seed)
        uniforms = torch.rand(limit, generator=generator, dtype=torch.float64)
        return Answer(request, uniforms, [], [])

    def next_uniform(self) -> torch.Tensor:
        return self.uniforms[len(self.token_ids)]

    def append(self, token: int, logprob: float, decode: Callable[[Sequence[int]], str]) -> None:
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        sampling = self.request.sampling
        if token in sampling.stop_token_ids or self._ends_in_stop_text(sampling.stop, decode):
            self.finish_reason = "stop"
        elif len(self.token_ids) == len(self.uniforms):
            self.finish_reason = "length"

    def _ends_in_stop_text(self, stop: Sequence[str], decode: Callable[[Sequence[int]], str]) -> bool:
        """Whether the last token completed a stop text; an earlier one would have ended the answer then."""
        if not stop:
            return False
        tail = max(len(text.encode()) for text in stop) + MAX_BYTES_PER_TOKEN
        text = decode(self.token_ids[-tail:])
        return any(wanted in text for wanted in stop)


def draw(
    logits_RV: torch.Tensor, uniforms_R: torch.Tensor, temperature: float, top_p: float, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token for each row by inverse transform sampling, and its log-probability after all filters.

    A temperature of 0 takes the likeliest token, with its log-probability at temperature 1, as vLLM does.

    >>> token, logprob = draw(torch.tensor([[0.0, 5.0, 0.0]]), torch.tensor([0.5]), 1.0, 1.0, 0)
    >>> token.tolist()
    [1]
    """
    if temperature == 0:
        logprobs_RV = logits_RV.log_softmax(dim=-1)
        tokens = logprobs_RV.argmax(dim=-1)
    else:
        logprobs_RV = filtered_logprobs(logits_RV, temperature, top_p, top_k)
        cumulative_RV = logprobs_RV.double().exp().cumsum(dim=-1)
        targets_R = uniforms_R.double() * cumulative_RV[:, -1]
        # right=True steps over tokens of probability zero, also where the draw is exactly zero
        tokens = torch.searchsorted(cumulative_RV, targets_R[:, None], right=True)[:, 0]
    return tokens, logprobs_RV.gather(-1, tokens[:, None])[:, 0]


def filtered_logprobs(logits_RV: torch.Tensor, temperature: float, top_p: float, top_k: int) -> torch.Tensor:
    """Log-probabilities after temperature, then top-k, then top-p over what top-k left; -inf outside.

    >>> (100 * filtered_logprobs(torch.tensor([[1.0, 2.0, 3.0]]), 1.0, 1.0, 2)[0].exp()).round().tolist()
    [0.0, 27.0, 73.0]
    """
    scaled_RV = logits_RV / temperature
    if 0 < top_k < scaled_RV.shape[-1]:
        smallest_R1 = scaled_RV.topk(top_k, dim=-1).values[:, -1:]
        scaled_RV = scaled_RV.masked_fill(scaled_RV < smallest_R1, NEVER)
    if top_p < 1:
        ascending_RV, order_RV = scaled_RV.sort(dim=-1)
        outside_RV = ascending_RV.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        outside_RV[:, -1] = False  # the likeliest token always stays
        scaled_RV = scaled_RV.masked_fill(outside_RV.scatter(-1, order_RV, outside_RV), NEVER)
    return scaled_RV.log_softmax(dim=-1)


def checkpoint_names(model: PreTrainedModel) -> tuple[str, ...]:
    """The names that a checkpoint of ``model`` has: experts one by one, a tied head included."""
    parameters = model.named_parameters(remove_duplicate=False)
    shapes = {name: torch.empty_like(parameter, device="meta") for name, parameter in parameters}
    return tuple(revert_weight_conversion(model, shapes))


def _canonical(request: Request) -> tuple[int, tuple[int, ...], int, int]:
    """Sorts a batch by content; prompts of one length stand together, so that little is padded."""
    return len(request.prompt.token_ids), request.prompt.token_ids, request.seed, request.sample_index


def _filters(sampling: Sampling) -> tuple[float, float, int]:
    return sampling.temperature, sampling.top_p, sampling.top_k


@contextmanager
def _inference(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; the learner finds its mode as it was."""
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
