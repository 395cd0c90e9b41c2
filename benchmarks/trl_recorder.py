"""Runs TRL's own trainers on the batches and keeps their losses and gradient norms. Needs ``trl``; one process, fp32.

Each setting has a trainer that is really constructed. Its rollout hands in the answers, its reward functions hand in
the scores; padding, masks, advantages, log-probabilities of the old policy and of the reference, corrections and the
loss are TRL's. Two things are set from outside: ``use_vllm``, without which TRL does not correct for the engine, after
the construction that would start one; and the weights, which move between scoring and loss as an update moves them.
"""

import importlib.metadata
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.trl_batches import (
    EOS,
    GROUP_SIZE,
    MAX_COMPLETION_LENGTH,
    NUM_ANSWERS,
    NUM_BATCHES,
    NUM_GROUPS,
    PAD,
    REWARD_WEIGHTS,
    SEED,
    VOCABULARY,
    Answer,
    Outcome,
    Recording,
    set_to_old,
    set_to_policy,
    write_checkpoint,
)
from benchmarks.trl_settings import SETTINGS, Setting

VERSIONS = ("trl", "transformers", "torch")
LONGEST_PROMPT = 12
ENGINE_NOISE = 0.2  # nats, from the learner's log-probabilities to the engine's


def record() -> Recording:
    """Draw the answers, run every setting."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    torch.set_num_threads(1)  # sums in one order
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_checkpoint(Path(scratch) / "model")
        _write_tokenizer(folder)
        batches = _scored(folder, _sampled(folder))
        outcomes = {setting.name: _outcome(setting, folder, batches) for setting in SETTINGS}
    versions = {package: importlib.metadata.version(package) for package in VERSIONS}
    return Recording(versions=versions, batches=batches, outcomes=outcomes)


def _sampled(folder: Path) -> list[tuple[Answer, ...]]:
    """Answers drawn from the old policy, some with a stretch that the environment is to have written."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    set_to_old(model)
    torch.manual_seed(SEED)
    rng = np.random.default_rng([SEED, NUM_BATCHES + 1])
    return [
        tuple(answer for _ in range(NUM_GROUPS) for answer in _sampled_group(model, rng)) for _ in range(NUM_BATCHES)
    ]


def _sampled_group(model: Any, rng: np.random.Generator) -> list[Answer]:
    prompt = rng.integers(EOS + 1, VOCABULARY, int(rng.integers(2, LONGEST_PROMPT + 1)))
    ids = torch.from_numpy(prompt).repeat(GROUP_SIZE, 1)
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        max_new_tokens=int(rng.integers(4, MAX_COMPLETION_LENGTH + 1)),  # answers cut at unlike lengths
        suppress_tokens=[PAD],
    )
    return [_answer(prompt, row[len(prompt) :].numpy(), rng) for row in made]


def _answer(prompt: np.ndarray, row: np.ndarray, rng: np.random.Generator) -> Answer:
    ended = np.flatnonzero(row == EOS)
    completion = row[: ended[0] + 1] if len(ended) else row.copy()
    if rng.random() < 0.5:
        completion[-1] = EOS
    environment = np.zeros(len(completion), bool)
    if len(completion) > 8 and rng.random() < 0.25:
        environment[3:6] = True
    correct = float(rng.random() < 0.4)
    nothing = np.zeros(len(completion), np.float32)
    return Answer(
        prompt_ids=prompt,
        completion_ids=completion,
        environment=environment,
        truncated=bool(completion[-1] != EOS),
        scores={"number": correct, "format": float(rng.choice([0.0, 0.5, 1.0]))},
        unscorable=bool(rng.random() < 0.1),
        behavior_logprobs=rng.normal(0.0, ENGINE_NOISE, len(completion)).astype(np.float32),
        old_logprobs=nothing,
        ref_logprobs=nothing,
    )


def _scored(folder: Path, batches: Sequence[tuple[Answer, ...]]) -> tuple[tuple[Answer, ...], ...]:
    """The answers with the log-probabilities that TRL gives them; the engine's are the old policy's and some noise."""
    trainer = _Trainer(Setting(name="scoring", trl={"beta": 1.0}), folder)
    done = []
    for batch in batches:
        inputs = trainer.scored(batch)
        old = _unpadded(inputs["old_per_token_logps"], batch)
        ref = _unpadded(inputs["ref_per_token_logps"], batch)
        done.append(
            tuple(
                replace(
                    answer,
                    old_logprobs=old[at],
                    ref_logprobs=ref[at],
                    behavior_logprobs=np.where(answer.environment, 0, old[at] + answer.behavior_logprobs),
                )
                for at, answer in enumerate(batch)
            )
        )
    return tuple(done)


def _unpadded(values: torch.Tensor, batch: Sequence[Answer]) -> list[np.ndarray]:
    return [row[: len(answer.completion_ids)].numpy() for row, answer in zip(values, batch, strict=True)]


def _outcome(setting: Setting, folder: Path, batches: Sequence[tuple[Answer, ...]]) -> Outcome:
    trainer = _Trainer(setting, folder)
    found = [trainer.run(index, batch) for index, batch in enumerate(batches)]
    return Outcome(
        loss=np.array([loss for loss, _, _ in found]),
        grad_norm=np.array([norm for _, norm, _ in found]),
        advantages=np.stack([advantages for _, _, advantages in found]),
    )


class _Trainer:
    """One of TRL's trainers, for one setting."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting = setting
        self._batch: Sequence[Answer] = ()
        self._trl = self._construct(folder)
        self._trl.model.train()  # TRL's "train" mode; the model has no dropout
        self._trl.current_gradient_accumulation_steps = setting.micro_batches
        if setting.trainer == "GRPO":
            self._trl.use_vllm, self._trl._last_loaded_step = True, self._trl.state.global_step

    def scored(self, batch: Sequence[Answer]) -> dict[str, Any]:
        """What TRL makes of a batch at the weights that sampled it."""
        self._batch = batch
        set_to_old(self._trl.model)
        found: dict[str, Any] = self._trl._generate_and_score_completions([{"prompt": "p"}] * NUM_ANSWERS)
        return found

    def run(self, index: int, batch: Sequence[Answer]) -> tuple[float, float, np.ndarray]:
        """Loss, gradient norm and advantages. Micro-batches are taken in order, without the shuffle before them."""
        from trl.trainer.utils import split_tensor_dict

        inputs = self.scored(batch)
        if not self._setting.on_policy:
            set_to_policy(self._trl.model, index)
        self._trl.model.zero_grad()
        parts = [inputs]
        if self._setting.micro_batches > 1:
            parts = split_tensor_dict(inputs, self._setting.micro_batches)
        total = 0.0
        for part in parts:
            loss = self._trl._compute_loss(self._trl.model, part)
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self._trl.model.parameters(), math.inf)
        return total, float(norm), inputs["advantages"].numpy()

    def _construct(self, folder: Path) -> Any:
        import trl
        import trl.experimental.gmpo as gmpo
        from datasets import Dataset

        trainers: dict[str, tuple[Any, Any]] = {
            "GRPO": (trl.GRPOTrainer, trl.GRPOConfig),
            "GMPO": (gmpo.GMPOTrainer, gmpo.GMPOConfig),
            "RLOO": (_rloo(trl.RLOOTrainer, self._handed_in), trl.RLOOConfig),
        }
        trainer, config = trainers[self._setting.trainer]
        rollout = {} if self._setting.trainer == "RLOO" else {"rollout_func": lambda prompts, _: self._handed_in()}
        return trainer(
            model=str(folder),
            reward_funcs=[self._score_function(name) for name in REWARD_WEIGHTS],
            args=config(**self._arguments(folder)),
            train_dataset=Dataset.from_dict({"prompt": ["p"] * NUM_GROUPS}),
            **rollout,
        )

    def _arguments(self, folder: Path) -> dict[str, Any]:
        return {
            "output_dir": str(folder / "unused"),
            "model_init_kwargs": {"dtype": "float32"},
            "bf16": False,
            "use_cpu": True,
            "gradient_checkpointing": False,
            "report_to": "none",
            "per_device_train_batch_size": NUM_ANSWERS // self._setting.micro_batches,
            "gradient_accumulation_steps": self._setting.micro_batches,
            "num_iterations": 2,  # so that the old policy is scored
            "num_generations": GROUP_SIZE,
            "max_completion_length": MAX_COMPLETION_LENGTH,
            "temperature": self._setting.temperature,
            "reward_weights": list(REWARD_WEIGHTS.values()),
            **self._setting.trl_arguments,
        }

    def _handed_in(self) -> dict[str, list[list[float]]]:
        return {
            "prompt_ids": [answer.prompt_ids.tolist() for answer in self._batch],
            "completion_ids": [answer.completion_ids.tolist() for answer in self._batch],
            "logprobs": [answer.behavior_logprobs.tolist() for answer in self._batch],
            "env_mask": [(~answer.environment).astype(int).tolist() for answer in self._batch],
        }

    def _score_function(self, name: str) -> Callable[..., list[float | None]]:
        def scores(**_: object) -> list[float | None]:
            fail = self._setting.verifiers_fail
            return [None if fail and answer.unscorable else answer.scores[name] for answer in self._batch]

        scores.__name__ = name
        return scores


def _rloo(trainer: Any, handed_in: Callable[[], dict[str, list[list[float]]]]) -> Any:
    """TRL's RLOO takes no rollout function: its generation is replaced, and every token is the policy's."""

    class Handed(trainer):  # type: ignore[misc]
        def _generate(self, prompts: list[str]) -> tuple[list[Any], list[Any], list[str]]:
            answers = handed_in()
            return answers["prompt_ids"], answers["completion_ids"], [""] * len(prompts)

    return Handed


def _write_tokenizer(folder: Path) -> None:
    names = {"<pad>": PAD, "</s>": EOS, "p": 2} | {f"t{token}": token for token in range(3, VOCABULARY)}
    wrapper: Any = PreTrainedTokenizerFast
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="p"))
    wrapper(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)
