"""Everything that shapes a run's future, as tensors and JSON: written with a checkpoint, read by ``--resume``."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from grpo.buffer import Buffer
from grpo.datatypes import ReadyGroup, Sample
from grpo.learner import Learner

SAMPLE_ARRAYS = ("token_ids_L", "loss_mask_L", "behavior_logprobs_L", "old_logprobs_L")
BUFFER_COUNTERS = ("step", "next_ordinal", "num_fresh", "num_refills")

Tensors = dict[str, torch.Tensor]


@dataclass(slots=True)
class Progress:
    """Counters that belong to the run itself. ``version`` counts publishes, ``num_tokens`` tokens learned from."""

    version: int = 0
    num_tokens: int = 0
    num_short_steps: int = 0  # steps that reached the cap on refilling
    before: dict[str, Any] | None = None  # the evaluation at the start, for the closing table
    latest: dict[str, Any] | None = None  # the newest one, and the step that it was made at
    latest_step: int = -1
    alarmed: bool = False
    unscored: list[list[int]] = field(default_factory=list)  # of the last steps, as FailureWatch counts them


def run_state(
    learner: Learner, buffer: Buffer, progress: Progress
) -> tuple[Iterator[tuple[str, torch.Tensor]], dict[str, Any]]:
    """Tensors, as they are asked for, and JSON that ``restore`` takes back. No group may be in flight.

    The weights themselves lie in the checkpoint's model files.
    """
    assert not buffer.in_flight, "a checkpoint is taken between rounds"
    own: Tensors = {}
    ready = []
    for ordinal, group in sorted(buffer.ready.items()):
        ready.append(_group_state(group))
        own |= _group_tensors(ordinal, group)
    state = {
        "progress": asdict(progress),
        "num_updates": learner.num_updates,
        "buffer": {name: getattr(buffer, name) for name in BUFFER_COUNTERS} | {"ready": ready},
    }
    return itertools.chain(learner.state_tensors(), own.items()), state


def restore(
    learner: Learner, buffer: Buffer, progress: Progress, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
) -> None:
    """Put a learner (its policy loaded from the same checkpoint), an empty buffer and progress where they were."""
    learner.load_state(tensors, state["num_updates"])
    for name in BUFFER_COUNTERS:
        setattr(buffer, name, state["buffer"][name])
    buffer.ready = {group["ordinal"]: _group_from(group, tensors) for group in state["buffer"]["ready"]}
    for name, value in state["progress"].items():
        setattr(progress, name, value)


def _group_state(group: ReadyGroup) -> dict[str, Any]:
    samples = [
        {
            "sample_index": sample.sample_index,
            "prompt_length": sample.prompt_length,
            "version": sample.version,
            "truncated": sample.truncated,
        }
        for sample in group.samples
    ]
    return {
        "group_id": group.group_id,
        "ordinal": group.ordinal,
        "samples": samples,
        "rewards_G": group.rewards_G.tolist(),  # JSON keeps every digit of a float
        "scores_G": {name: scores_G.tolist() for name, scores_G in group.scores_G.items()},
    }


def _group_tensors(ordinal: int, group: ReadyGroup) -> Tensors:
    return {
        f"ready/{ordinal}/{sample.sample_index}/{name}": torch.from_numpy(np.ascontiguousarray(array))
        for sample in group.samples
        for name in SAMPLE_ARRAYS
        if (array := getattr(sample, name)) is not None
    }


def _group_from(group: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> ReadyGroup:
    samples = []
    for sample in group["samples"]:
        prefix = f"ready/{group['ordinal']}/{sample['sample_index']}/"
        found = {name: tensors.get(prefix + name) for name in SAMPLE_ARRAYS}
        arrays: dict[str, Any] = {name: None if t is None else t.numpy() for name, t in found.items()}
        samples.append(Sample(group_id=group["group_id"], **sample, **arrays))
    return ReadyGroup(
        group_id=group["group_id"],
        ordinal=group["ordinal"],
        samples=tuple(samples),
        rewards_G=np.array(group["rewards_G"], dtype=np.float64),
        scores_G={name: np.array(scores, dtype=np.float64) for name, scores in group["scores_G"].items()},
    )
