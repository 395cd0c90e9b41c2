"""Tokenizers as the families of public models have them, small, written to disk and loaded as any other."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
WITHOUT_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def write_tokenizer(
    folder: Path,
    *,
    special: tuple[str, ...],
    eos: str | None,
    bos: str | None = None,
    adds_bos: bool = False,
    chat_template: str | None = None,
    ends: list[str] | str | None = None,
) -> str:
    """A byte-level tokenizer with ``special`` tokens; ``ends`` become eos_token_id of generation_config.json."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    if adds_bos and bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    wrap: Any = PreTrainedTokenizerFast
    fast = wrap(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos)
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}), encoding="utf-8")
    if ends is not None:
        ids = [tokenizer.token_to_id(end) for end in ends] if isinstance(ends, list) else tokenizer.token_to_id(ends)
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}), encoding="utf-8")
    return str(folder)


QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_SPECIAL = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
)


def write_family(folder: Path, family: str) -> str:
    """``qwen-base``, ``qwen-instruct``, ``llama-base``, ``llama-instruct``, ``no-system`` or ``mute`` (no BOS written).

    As published: Qwen's base has a chat template and ends with ``<|endoftext|>``, its instruct ends with
    ``<|im_end|>``; neither has a BOS. Llama's add one, and its chat template writes one, too.
    """
    qwen: dict[str, Any] = {"special": QWEN_SPECIAL, "chat_template": CHATML}
    llama: dict[str, Any] = {"special": LLAMA_SPECIAL, "bos": "<|begin_of_text|>", "adds_bos": True}
    turns = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
    made: dict[str, dict[str, Any]] = {
        "qwen-base": {**qwen, "eos": "<|endoftext|>", "ends": "<|endoftext|>"},
        "qwen-instruct": {**qwen, "eos": "<|im_end|>", "ends": ["<|im_end|>", "<|endoftext|>"]},
        "llama-base": {**llama, "eos": "<|end_of_text|>", "ends": "<|end_of_text|>"},
        "llama-instruct": {
            **llama,
            "eos": "<|eot_id|>",
            "chat_template": LLAMA,
            "ends": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        },
        "no-system": {"special": turns, "bos": "<bos>", "eos": "<eos>", "adds_bos": True}
        | {"chat_template": WITHOUT_SYSTEM},
        "mute": {**llama, "eos": "<|eot_id|>", "chat_template": LLAMA.removeprefix("{{ bos_token }}")},
    }
    return write_tokenizer(folder, **made[family])
