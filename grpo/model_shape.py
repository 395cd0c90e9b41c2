"""The sizes of a model, read from its config.json without loading it. Imports no torch."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grpo.errors import ModelError, as_written
from grpo.models import resolve_model

_COUNTS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
EXACT = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe")  # families whose parameters are counted exactly


def _qwen2(
    hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, **others: object
) -> Mapping[str, object]:
    """config.json of a dense Qwen2 or Qwen2.5."""
    return {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        **others,
    }


_SMALL_QWEN: dict[str, object] = {"vocab_size": 151936, "tie_word_embeddings": True}
_LARGE_QWEN: dict[str, object] = {"vocab_size": 152064, "tie_word_embeddings": False}

# config.json of public models that shipped recipes name, so that a recipe can be checked before a download
PUBLIC_CONFIGS: Mapping[str, Mapping[str, object]] = {
    "Qwen/Qwen3-30B-A3B-Base": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-1.5B": _qwen2(1536, 28, 12, 2, 8960, max_position_embeddings=131072, **_SMALL_QWEN),
    "Qwen/Qwen2.5-3B": _qwen2(2048, 36, 16, 2, 11008, max_position_embeddings=32768, **_SMALL_QWEN),
    "Qwen/Qwen2.5-32B": _qwen2(5120, 64, 40, 8, 27648, max_position_embeddings=131072, **_LARGE_QWEN),
    "Qwen/Qwen2.5-Math-1.5B": _qwen2(1536, 28, 12, 2, 8960, max_position_embeddings=4096, **_SMALL_QWEN),
    "Qwen/Qwen2.5-Math-7B": _qwen2(3584, 28, 28, 4, 18944, max_position_embeddings=4096, **_LARGE_QWEN),
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes that memory follows from. A dense model has 0 experts."""

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    intermediate_size: int  # of one expert, where there are experts
    num_experts: int
    experts_per_token: int
    tied: bool
    max_positions: int | None

    @property
    def num_parameters(self) -> int:
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied else 2)
        return embeddings + self.num_layers * self._layer_parameters() + self.hidden_size

    def _layer_parameters(self) -> int:
        hidden, head = self.hidden_size, self.head_dim
        attention = 2 * hidden * head * (self.num_heads + self.num_kv_heads)
        if self.model_type == "qwen2":
            attention += head * (self.num_heads + 2 * self.num_kv_heads)  # biases
        if self.model_type.startswith("qwen3"):
            attention += 2 * head  # norms of queries and keys
        router = self.num_experts * hidden
        return attention + router + max(1, self.num_experts) * 3 * hidden * self.intermediate_size + 2 * hidden

    def kv_bytes_per_token(self, item_bytes: int, num_shards: int = 1) -> int:
        """Keys and values of one token on one shard; a shard holds a whole head at least."""
        heads = -(-self.num_kv_heads // num_shards)
        return 2 * self.num_layers * heads * self.head_dim * item_bytes


def read_shape(model: str) -> ModelShape | None:
    """The shape of a folder, of ``tiny-base``, or of a hub id that is cached or public; None if not known here.

    Raises:
        ModelError: a folder is missing, or its config.json is not that of a causal language model.
    """
    folder = folder_of(model)
    if folder is not None:
        return _as_shape(json.loads((folder / "config.json").read_text(encoding="utf-8")), model)
    return _as_shape(PUBLIC_CONFIGS[model], model) if model in PUBLIC_CONFIGS else None


def folder_of(model: str) -> Path | None:
    """The folder with the model's configuration: its own, or the newest in the hub's cache; None if not here.

    Raises:
        ModelError: a folder is missing.
    """
    resolved = resolve_model(model)
    return Path(resolved) if Path(resolved).is_dir() else _cached_folder(resolved)


def _cached_folder(model: str) -> Path | None:
    """The newest snapshot with a config.json in the hub's cache."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    configs = (hub / f"models--{model.replace('/', '--')}" / "snapshots").glob("*/config.json")
    newest = max(configs, key=lambda file: file.stat().st_mtime, default=None)
    return newest.parent if newest else None


def _as_shape(config: Mapping[str, object], source: str) -> ModelShape:
    def number(key: str, default: int | None = None) -> int:
        value = config.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or (value < 1 and key in _COUNTS):
            raise ModelError(
                f"model = {source!r} is no causal language model whose memory can be reckoned: its config.json has "
                f"{key} = {as_written(value)}, where a whole number belongs. Name a folder that save_pretrained wrote"
            )
        return value

    num_experts = number("num_experts", number("num_local_experts", 0))
    heads = number("num_attention_heads")
    intermediate = number("moe_intermediate_size" if num_experts else "intermediate_size")
    return ModelShape(
        model_type=str(config.get("model_type", "")),
        hidden_size=number("hidden_size"),
        num_layers=number("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", number("hidden_size") // heads),
        vocab_size=number("vocab_size"),
        intermediate_size=intermediate,
        num_experts=num_experts,
        experts_per_token=number("num_experts_per_tok", 0),
        tied=bool(config.get("tie_word_embeddings", False)),
        max_positions=number("max_position_embeddings", 0) or None,
    )
