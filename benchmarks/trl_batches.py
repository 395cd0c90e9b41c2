"""Twenty ragged batches of a tiny model, and what TRL made of them: the file, and the weights that go with it.

A batch is four groups of four answers. Three sets of weights follow from one seed: the reference, the policy that
sampled (``old``), and for each batch the policy that learns. Weights come from numpy, whose streams do not change.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

NUM_BATCHES, NUM_GROUPS, GROUP_SIZE = 20, 4, 4
NUM_ANSWERS = NUM_GROUPS * GROUP_SIZE
MAX_COMPLETION_LENGTH = 24
REWARD_WEIGHTS = {"number": 1.0, "format": 0.5}  # reward functions, by name
VOCABULARY, PAD, EOS = 32, 0, 1
SEED = 0
MOVE = 0.015  # of every weight, from the reference to the sampling policy and on to the learning one
RECORDED = Path(__file__).resolve().parent.parent / "tests" / "golden" / "trl_batches.npz"

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of C tokens; log-probabilities, (C,), are at temperature 1."""

    prompt_ids: Array
    completion_ids: Array
    environment: Array  # (C,): tokens that the policy did not write
    truncated: bool
    scores: Mapping[str, float]  # by reward function
    unscorable: bool  # in the one setting that has verifiers fail
    behavior_logprobs: Array
    old_logprobs: Array
    ref_logprobs: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What TRL computed under one setting; ``advantages`` (batches, answers), the others (batches,)."""

    loss: Array
    grad_norm: Array
    advantages: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    versions: Mapping[str, str]
    batches: tuple[tuple[Answer, ...], ...]
    outcomes: Mapping[str, Outcome]  # by the setting's name


def first_batches(recording: Recording, num_batches: int) -> Recording:
    """The recording cut to its first batches."""
    outcomes = {
        name: Outcome(
            loss=outcome.loss[:num_batches],
            grad_norm=outcome.grad_norm[:num_batches],
            advantages=outcome.advantages[:num_batches],
        )
        for name, outcome in recording.outcomes.items()
    }
    return replace(recording, batches=recording.batches[:num_batches], outcomes=outcomes)


def write_checkpoint(folder: Path) -> Path:
    """The reference, as a checkpoint that transformers loads."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=EOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = LlamaForCausalLM(config).float()
    set_to_reference(model)
    model.save_pretrained(folder)
    return folder


def set_to_reference(model: nn.Module) -> None:
    """The weights that the KL holds on to: the checkpoint's."""
    _set_weights(model)


def set_to_old(model: nn.Module) -> None:
    """The weights that sampled."""
    _set_weights(model, moves=(0,))


def set_to_policy(model: nn.Module, batch: int) -> None:
    """The weights that learn from a batch, a few updates after those that sampled it."""
    _set_weights(model, moves=(0, batch + 1))


@torch.no_grad()
def _set_weights(model: nn.Module, moves: tuple[int, ...] = ()) -> None:
    streams = [np.random.default_rng([SEED, move]) for move in moves]
    base = np.random.default_rng(SEED)
    for name, parameter in sorted(model.named_parameters()):
        center, spread = (1.0, 0.1) if parameter.dim() == 1 else (0.0, 0.2)
        values = base.normal(center, spread, parameter.shape)
        for stream in streams:
            values += stream.normal(0.0, MOVE, parameter.shape)
        parameter.copy_(torch.from_numpy(values))
        assert parameter.dtype == torch.float32, f"{name} is to be compared in fp32"


def save(path: Path, recording: Recording) -> None:
    """Write the file; the same recording gives the same bytes."""
    answers = [answer for batch in recording.batches for answer in batch]
    arrays: dict[str, Array] = {
        "about": np.array(json.dumps({"versions": dict(recording.versions)}, sort_keys=True)),
        "prompt_lengths": np.array([len(answer.prompt_ids) for answer in answers], np.uint8),
        "completion_lengths": np.array([len(answer.completion_ids) for answer in answers], np.uint8),
        "prompt_ids": np.concatenate([answer.prompt_ids for answer in answers]).astype(np.uint8),
        "completion_ids": np.concatenate([answer.completion_ids for answer in answers]).astype(np.uint8),
        "environment": np.concatenate([answer.environment for answer in answers]),
        "truncated": np.array([answer.truncated for answer in answers]),
        "unscorable": np.array([answer.unscorable for answer in answers]),
    }
    for name in REWARD_WEIGHTS:
        arrays[f"scores/{name}"] = np.array([answer.scores[name] for answer in answers], np.float32)
    for name in ("behavior_logprobs", "old_logprobs", "ref_logprobs"):
        arrays[name] = np.concatenate([getattr(answer, name) for answer in answers]).astype(np.float32)
    for name, outcome in recording.outcomes.items():
        arrays[f"outcomes/{name}/loss"] = outcome.loss
        arrays[f"outcomes/{name}/grad_norm"] = outcome.grad_norm
        arrays[f"outcomes/{name}/advantages"] = outcome.advantages.astype(np.float32)
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load(path: Path = RECORDED) -> Recording:
    """Read the file.

    Raises:
        OSError: it is not there or is not one of these.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    answers = _answers(arrays)
    batches = [tuple(answers[start : start + NUM_ANSWERS]) for start in range(0, len(answers), NUM_ANSWERS)]
    names = sorted({name.split("/")[1] for name in arrays if name.startswith("outcomes/")})
    return Recording(
        versions=json.loads(str(arrays["about"]))["versions"],
        batches=tuple(batches),
        outcomes={name: _outcome(arrays, name) for name in names},
    )


def _answers(arrays: Mapping[str, Array]) -> list[Answer]:
    prompt_ends, ends = (
        np.cumsum(arrays["prompt_lengths"].astype(int)),
        np.cumsum(arrays["completion_lengths"].astype(int)),
    )
    prompts = np.split(arrays["prompt_ids"].astype(np.int64), prompt_ends[:-1])
    per_token = {
        name: np.split(arrays[name], ends[:-1])
        for name in ("completion_ids", "environment", "behavior_logprobs", "old_logprobs", "ref_logprobs")
    }
    return [
        Answer(
            prompt_ids=prompt_ids,
            completion_ids=per_token["completion_ids"][at].astype(np.int64),
            environment=per_token["environment"][at],
            truncated=bool(arrays["truncated"][at]),
            scores={name: float(arrays[f"scores/{name}"][at]) for name in REWARD_WEIGHTS},
            unscorable=bool(arrays["unscorable"][at]),
            behavior_logprobs=per_token["behavior_logprobs"][at],
            old_logprobs=per_token["old_logprobs"][at],
            ref_logprobs=per_token["ref_logprobs"][at],
        )
        for at, prompt_ids in enumerate(prompts)
    ]


def _outcome(arrays: Mapping[str, Array], name: str) -> Outcome:
    return Outcome(
        loss=arrays[f"outcomes/{name}/loss"],
        grad_norm=arrays[f"outcomes/{name}/grad_norm"],
        advantages=arrays[f"outcomes/{name}/advantages"],
    )
