"""Pre-train the embedded base model: ``make tiny-base`` (seeded; under an hour on two cores).

A Qwen3 mixture of experts of 1.4 million parameters reads a stream of worked arithmetic in which most
documents jump to a rough answer, some reason in steps and get it right, some reason and slip, and some break the
format. It learns to imitate all of them: a base model that can reason, and mostly does not. No held-out
problem (``grpo.arithmetic.is_held_out``) occurs in the stream.

``--tool`` goes on from that base to one that sometimes has Python compute the expression, on chains of up to six
numbers, which are beyond its own reasoning: ``make tiny-tool``, in minutes. ``--countdown`` goes on from it to one that
plays Countdown, mostly by a guess and sometimes by a search (grpo/tiny_base/search.py): ``make tiny-countdown``.
"""

import argparse
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

from grpo.arithmetic import problem_at, solve_in_steps
from grpo.generators import Countdown
from grpo.tiny_base import search

BASE = Path(__file__).parent / "checkpoint"
TOOL_BASE = Path(__file__).parent / "tool_checkpoint"
COUNTDOWN_BASE = Path(__file__).parent / "countdown_checkpoint"
END = "<|endoftext|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
EARLY_SHARES = {"jump": 0.48, "reason": 0.46, "slip": 0.02, "broken": 0.04}  # arithmetic first,
LATE_SHARES = {"jump": 0.67, "reason": 0.25, "slip": 0.03, "broken": 0.05}  # then the habits of the base
TOOL_SHARES = {"jump": 0.5, "reason": 0.25, "slip": 0.02, "broken": 0.03, "tool": 0.2}
COUNTDOWN_EARLY_SHARES = {"search": 1.0}
COUNTDOWN_LATE_SHARES = {"jump": 0.6, "search": 0.35, "slip": 0.01, "broken": 0.04}
TOOL_MAX_NUMBERS = 6
COUNTDOWN = Countdown(min_numbers=3, max_numbers=3, max_number=10, max_target=search.MAX_VALUE, wording="short")
LATE_FROM = 0.75  # share of the training after which the second mixture holds
MAX_GUESS_ERROR = 4
IGNORE = -100
Document = tuple[str, str]  # a question, and what follows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What one of the packaged models reads: on which documents, from where, and for how long."""

    out: Path
    start: Path | None  # absent: from nothing
    early: Mapping[str, float]
    late: Mapping[str, float]
    document: Callable[[int, int, Mapping[str, float], random.Random], Document]  # of an index, a seed, shares
    num_steps: int
    learning_rate: float  # at its peak
    row_tokens: int


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


def arithmetic_document(max_numbers: int) -> Callable[[int, int, Mapping[str, float], random.Random], Document]:
    """Chains of up to ``max_numbers`` numbers."""

    def document(index: int, seed: int, shares: Mapping[str, float], rng: random.Random) -> Document:
        expression, _ = problem_at(index, seed=seed, held_out=False, max_numbers=max_numbers)
        return expression, answer_text(expression, _kind(shares, rng), rng)

    return document


def countdown_document(index: int, seed: int, shares: Mapping[str, float], rng: random.Random) -> Document:
    """Three numbers from 1 to 10 and a target that they make."""
    problem = COUNTDOWN.problem(index, seed=seed, held_out=False)
    nums, target = COUNTDOWN.read(problem)
    kind = _kind(shares, rng)
    text = search.answer_text(nums, target, "search" if kind == "broken" else kind, rng)
    return problem.question, _break_format(text, rng) if kind == "broken" else text


def _kind(shares: Mapping[str, float], rng: random.Random) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


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
    """Documents of a course without end, packed whole into rows; ``shares`` is the mixture of kinds and may change.

    Questions carry no loss: their numbers are random, and nothing in them can be learned.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, course: Course) -> None:
        self.shares = course.early
        self._course = course
        self._tokenizer = tokenizer
        self._seed = seed

    def _documents(self) -> Iterator[tuple[list[int], list[int]]]:
        for index in itertools.count():
            rng = random.Random(f"document/{self._seed}/{index}")
            asked, text = self._course.document(index, self._seed + 1_000_003, self.shares, rng)
            question = self._tokenizer.encode(f"Q: {asked}\nA:")
            answer = [*self._tokenizer.encode(text), self._tokenizer.eos_token_id]
            yield question + answer, [IGNORE] * len(question) + answer

    def rows(self) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """Rows of the course's length: ids, labels, and positions, which restart at each document."""
        ids: list[int] = []
        labels: list[int] = []
        positions: list[int] = []
        for doc_ids, doc_labels in self._documents():
            rest = self._course.row_tokens - len(ids)
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


COURSES = {
    "base": Course(
        out=BASE,
        start=None,
        early=EARLY_SHARES,
        late=LATE_SHARES,
        document=arithmetic_document(5),
        num_steps=2400,
        learning_rate=2e-3,
        row_tokens=128,
    ),
    "tool": Course(
        out=TOOL_BASE,
        start=BASE,
        early=TOOL_SHARES,
        late=TOOL_SHARES,
        document=arithmetic_document(TOOL_MAX_NUMBERS),
        num_steps=500,
        learning_rate=1e-3,
        row_tokens=128,
    ),
    "countdown": Course(
        out=COUNTDOWN_BASE,
        start=BASE,
        early=COUNTDOWN_EARLY_SHARES,
        late=COUNTDOWN_LATE_SHARES,
        document=countdown_document,
        num_steps=900,
        learning_rate=2e-3,
        row_tokens=192,
    ),
}


def pretrain(
    course: Course, out_dir: Path, *, seed: int, num_steps: int, rows_per_step: int, peak_learning_rate: float
) -> None:
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    if course.start is not None:
        model = Qwen3MoeForCausalLM.from_pretrained(course.start, dtype=torch.float32)
    else:
        model = Qwen3MoeForCausalLM(model_config(len(tokenizer), tokenizer.eos_token_id)).float()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    stream = Stream(tokenizer, seed, course)
    rows = stream.rows()
    started, running = time.monotonic(), 0.0
    for step in range(num_steps):
        stream.shares = course.late if step >= LATE_FROM * num_steps else course.early
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
    kinds = parser.add_mutually_exclusive_group()
    for name, what in (("tool", "calls a tool"), ("countdown", "plays Countdown")):
        kinds.add_argument(
            f"--{name}", dest="course", action="store_const", const=name, help=f"go on from the base to one that {what}"
        )
    parser.set_defaults(course="base")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="default: the course's")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, help="at its peak; default: the course's")
    args = parser.parse_args()
    course = COURSES[args.course]
    pretrain(
        course,
        args.out or course.out,
        seed=args.seed,
        num_steps=args.steps or course.num_steps,
        rows_per_step=args.rows,
        peak_learning_rate=args.learning_rate or course.learning_rate,
    )


if __name__ == "__main__":
    main()
