"""Pre-train the embedded base model: ``make tiny-base`` (seeded; under an hour on two cores).

A Qwen3 mixture of experts of 1.4 million parameters reads a stream of worked arithmetic in which most
documents jump to a rough answer, some reason in steps and get it right, some reason and slip, and some break the
format. It learns to imitate all of them: a base model that can reason, and mostly does not. No held-out
problem (``grpo.arithmetic.is_held_out``) occurs in the stream.

``--tool`` goes on from that base to one that sometimes has Python compute the expression, on chains of up to six
numbers, which are beyond its own reasoning: ``make tiny-tool``, in minutes.
"""

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

from grpo.arithmetic import problem_at, solve_in_steps

BASE = Path(__file__).parent / "checkpoint"
TOOL_BASE = Path(__file__).parent / "tool_checkpoint"
END = "<|endoftext|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
EARLY_SHARES = {"jump": 0.48, "reason": 0.46, "slip": 0.02, "broken": 0.04}  # arithmetic first,
LATE_SHARES = {"jump": 0.67, "reason": 0.25, "slip": 0.03, "broken": 0.05}  # then the habits of the base
TOOL_SHARES = {"jump": 0.5, "reason": 0.25, "slip": 0.02, "broken": 0.03, "tool": 0.2}
TOOL_MAX_NUMBERS = 6
LATE_FROM = 0.75  # share of the training after which the second mixture holds
MAX_GUESS_ERROR = 4
ROW_TOKENS = 128
IGNORE = -100


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, then the end of text and the four tags."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )


def model_config(vocab_size: int, eos_token_id: int) -> Qwen3MoeConfig:
    make: Any = Qwen3MoeConfig  # its signature, made by a decorator, hides head_dim from type checkers
    config: Qwen3MoeConfig = make(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=256,
        moe_intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=8,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos_token_id,
        pad_token_id=eos_token_id,
        router_aux_loss_coef=0.01,
    )
    return config


def answer_text(expression: str, kind: str, rng: random.Random) -> str:
    """What follows ``A:`` in a document of the given kind.

    >>> answer_text("2+3+4", "reason", random.Random(0))
    '<think>5+4=9</think><answer>9</answer>'
    """
    steps = solve_in_steps(expression)
    if kind == "tool":
        return f"<python>print({expression})</python><output>{steps[-1]}</output><answer>{steps[-1]}</answer>"
    if kind == "jump":
        return f"<answer>{_guess(int(steps[-1]), rng)}</answer>"
    if kind == "slip":
        steps = _steps_with_a_slip(steps, rng)
    text = f"<think>{'='.join(steps)}</think><answer>{steps[-1]}</answer>"
    return _break_format(text, rng) if kind == "broken" else text


def _guess(value: int, rng: random.Random) -> int:
    """Near the value, and seldom it: whoever jumps guesses."""
    return max(0, value + rng.randint(-MAX_GUESS_ERROR, MAX_GUESS_ERROR))


def _steps_with_a_slip(steps: list[str], rng: random.Random) -> list[str]:
    """One step's first number goes wrong, and the rest follows from the wrong one."""
    at = rng.randrange(len(steps))
    digits = len(steps[at]) - len(steps[at].lstrip("0123456789"))
    head, tail = (steps[at][:digits], steps[at][digits:]) if digits else ("0", steps[at])
    wrong = str(max(0, int(head) + rng.choice((-10, -2, -1, 1, 2, 10)))) + tail
    try:
        return [*steps[:at], wrong, *solve_in_steps(wrong)]
    except ValueError:
        return [*steps[:at], wrong]


def _break_format(text: str, rng: random.Random) -> str:
    tag = rng.choice(TAGS)
    if rng.random() < 0.5:
        return text.replace(tag, "")
    return text[: rng.randrange(1, len(text))]


class Stream:
    """Documents without end, packed whole into rows; ``shares`` is the mixture of kinds and may change.

    Questions carry no loss: their numbers are random, and nothing in them can be learned.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, max_numbers: int) -> None:
        self.shares = EARLY_SHARES
        self._max_numbers = max_numbers
        self._tokenizer = tokenizer
        self._seed = seed

    def _documents(self) -> Iterator[tuple[list[int], list[int]]]:
        for index in itertools.count():
            rng = random.Random(f"document/{self._seed}/{index}")
            expression, _ = problem_at(
                index, seed=self._seed + 1_000_003, held_out=False, max_numbers=self._max_numbers
            )
            kind = rng.choices(list(self.shares), list(self.shares.values()))[0]
            question = self._tokenizer.encode(f"Q: {expression}\nA:")
            answer = [*self._tokenizer.encode(answer_text(expression, kind, rng)), self._tokenizer.eos_token_id]
            yield question + answer, [IGNORE] * len(question) + answer

    def rows(self) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """Rows of ``ROW_TOKENS``: ids, labels, and positions, which restart at each document."""
        ids: list[int] = []
        labels: list[int] = []
        positions: list[int] = []
        for doc_ids, doc_labels in self._documents():
            rest = ROW_TOKENS - len(ids)
            if len(doc_ids) > rest:
                end = self._tokenizer.eos_token_id
                yield ids + [end] * rest, labels + [IGNORE] * rest, positions + list(range(rest))
                ids, labels, positions = [], [], []
            ids += doc_ids
            labels += doc_labels
            positions += range(len(doc_ids))


def learning_rate_at(step: int, num_steps: int, peak: float, warmup: int = 100) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup))))


def pretrain(
    out_dir: Path, *, seed: int, num_steps: int, rows_per_step: int, peak_learning_rate: float, tool: bool
) -> None:
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    if tool:
        model = Qwen3MoeForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    else:
        model = Qwen3MoeForCausalLM(model_config(len(tokenizer), tokenizer.eos_token_id)).float()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    stream = Stream(tokenizer, seed, TOOL_MAX_NUMBERS if tool else 5)
    rows = stream.rows()
    started, running = time.monotonic(), 0.0
    for step in range(num_steps):
        late = step >= LATE_FROM * num_steps
        stream.shares = TOOL_SHARES if tool else LATE_SHARES if late else EARLY_SHARES
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, num_steps, peak_learning_rate)
        ids, labels, positions = (
            torch.tensor(part) for part in zip(*(next(rows) for _ in range(rows_per_step)), strict=True)
        )
        loss = model(
            input_ids=ids, labels=labels, position_ids=positions, use_cache=False, output_router_logits=True
        ).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1:5d}  loss {running / 100:.4f}  {time.monotonic() - started:.0f} s", flush=True)
            running = 0.0
        if (step + 1) % 800 == 0 or step + 1 == num_steps:
            _save(model, tokenizer, out_dir)


def _save(model: Qwen3MoeForCausalLM, tokenizer: PreTrainedTokenizerFast, out_dir: Path) -> None:
    """Write the checkpoint in bf16, as it ships."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    half: Any = Qwen3MoeForCausalLM(model.config)
    half.to(torch.bfloat16)
    half.load_state_dict(state)
    half.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", action="store_true", help="go on from the base to one that calls a tool")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="default 2400; with --tool 500")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, help="at its peak; default 2e-3, with --tool 1e-3")
    args = parser.parse_args()
    pretrain(
        args.out or (TOOL_BASE if args.tool else BASE),
        seed=args.seed,
        num_steps=args.steps or (500 if args.tool else 2400),
        rows_per_step=args.rows,
        peak_learning_rate=args.learning_rate or (1e-3 if args.tool else 2e-3),
        tool=args.tool,
    )


if __name__ == "__main__":
    main()
