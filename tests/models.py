"""Tiny random models, written as checkpoints that transformers loads. Real architectures, a few thousand parameters."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

VOCABULARY = 48
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "initializer_range": 0.2,  # far from uniform, so that a mistake moves the log-probabilities
}


def write_moe(folder: Path, *, seed: int = 0) -> Path:
    """A Qwen3 mixture of experts: 4 experts, 2 active, untied head."""
    torch.manual_seed(seed)
    config = Qwen3MoeConfig(
        **(SHAPE | {"tie_word_embeddings": False}),
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=True,
    )
    return _write(Qwen3MoeForCausalLM(config), folder)


def write_dense(folder: Path, *, seed: int = 0) -> Path:
    """A Llama whose head is tied to its embedding."""
    torch.manual_seed(seed)
    return _write(LlamaForCausalLM(LlamaConfig(**SHAPE)), folder)


def _write(model: PreTrainedModel, folder: Path) -> Path:
    model.float().save_pretrained(folder)
    return folder
