"""Checkpoints of random weights, small enough to make in a test, and the least learner that can publish them."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, Qwen3MoeForCausalLM
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.qwen3_moe.configuration_qwen3_moe import Qwen3MoeConfig

VOCABULARY = 97  # not a multiple of anything that kernels like
WINDOW = 96  # tokens of prompt and answer


def make_moe(seed: int = 0) -> PreTrainedModel:
    """A mixture of experts with a tied head; logits spread enough that every weight matters to the probe."""
    configuration: Any = Qwen3MoeConfig  # its generated signature is no help to a type checker
    config = configuration(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        num_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return _in_fp32(Qwen3MoeForCausalLM, config, seed)


def make_dense(seed: int = 0) -> PreTrainedModel:
    """A dense Llama with a tied head."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return _in_fp32(LlamaForCausalLM, config, seed)


def _in_fp32(architecture: Any, config: Any, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    model: PreTrainedModel = architecture(config).float().eval()
    return model


def save(model: PreTrainedModel, folder: Path) -> str:
    """A checkpoint folder, with a tokenizer that agrees with ``decode``."""
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({decode([token]): token for token in range(VOCABULARY)}))
    tokenizer.decoder = decoders.Fuse()
    wrapper: Any = PreTrainedTokenizerFast
    wrapper(tokenizer_object=tokenizer).save_pretrained(folder)
    return str(folder)


def decode(token_ids: Sequence[int]) -> str:
    """One character a token, so that texts can be told by eye and by index."""
    return "".join(chr(0x100 + token) for token in token_ids)


def reference_logprobs(model: torch.nn.Module, token_ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of the whole vocabulary before each of tokens 1..L-1; shape (L-1, V)."""
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([list(token_ids)], device=next(model.parameters()).device), use_cache=False
        ).logits[0, :-1]
    return torch.log_softmax(logits.float() / temperature, dim=-1)


class TinyLearner:
    """What `grpo.weights.Publisher` asks of a learner, and an optimizer step that moves every weight."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        state = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        yield from revert_weight_conversion(self.model, state).items()

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        logprobs_LV = reference_logprobs(self.model, token_ids)
        chosen = torch.tensor(list(token_ids[1:]), device=logprobs_LV.device)
        return logprobs_LV.gather(-1, chosen[:, None])[:, 0].cpu().numpy()

    def router_margin(self, token_ids: Sequence[int]) -> float:
        return math.inf  # no near-tie excuses a difference in these tests

    def step(self, token_ids: Sequence[int]) -> None:
        ids = torch.tensor([list(token_ids)], device=self.model.device)
        loss = self.model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
