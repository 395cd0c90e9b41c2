"""The hash chain: one record a step of all that the step did, each with the hash of the record before it.

    {"step": 12, "problems": ..., "answers": ..., "verdicts": ..., "loss": ..., "grad_norm": ..., "weights": ...,
     "metrics": ..., "transcripts": ..., "ledger": ..., "positions": {...}, "previous": ..., "hash": ...}

Nobody can change a line of a finished run without a field of some step disagreeing, and whoever runs a step again
(``grpo replay``) compares field by field. Hashes are SHA-256, in hexadecimal.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo.datatypes import Group
from grpo.errors import ReplayError
from grpo.metrics import is_timing
from grpo.run_folder import JsonLines, RunFolder, to_line

# in the order in which a step comes to them: the first that differs is where two runs parted
FIELDS = ("problems", "answers", "verdicts", "loss", "grad_norm", "weights", "metrics", "transcripts", "ledger")
COVERED = ("transcripts", "ledger")  # files of the run folder of which a record covers what the step wrote

Record = dict[str, Any]


def sampled(groups: Sequence[Group]) -> Record:
    """What a step's sampling did, in its order: which problems as tokens, which answers, which verdicts."""
    problems, answers, verdicts = (hashlib.sha256() for _ in range(3))
    for group in groups:
        problems.update(to_line([group.prompt.group_id, *group.prompt.token_ids]))
        for member in group.members:
            completion = member.completion
            answers.update(to_line([completion.sample_index, completion.version, completion.finish_reason]))
            answers.update(completion.token_ids.tobytes() + completion.behavior_logprobs.tobytes())
            verdicts.update(to_line([member.reward, {n: [v.status, v.score] for n, v in member.verdicts.items()}]))
    return {"problems": problems.hexdigest(), "answers": answers.hexdigest(), "verdicts": verdicts.hexdigest()}


class Chain:
    """Writes the chain of a run into its folder's ``chain.jsonl``, going on from the record that the file ends with."""

    def __init__(self, folder: RunFolder) -> None:
        self._file = folder.chain
        self._covered: dict[str, JsonLines] = {name: getattr(folder, name) for name in COVERED}

    def append(self, step: int, done: Record, metrics: Mapping[str, float]) -> None:
        """Record a step, after all else of it has been written.

        Args:
            done: the fields that the step itself knows (``sampled``, loss, gradient norm, weights).
            metrics: as logged; timings are left out.
        """
        last = self._file.last()
        before = {} if last is None else last["positions"]
        positions = {name: file.position() for name, file in self._covered.items()}
        written = {
            name: _sha256(file.read(before.get(name, 0), positions[name])) for name, file in self._covered.items()
        }
        fields = done | {"metrics": _untimed(metrics)} | written
        record: Record = {"step": step, **{name: fields.get(name) for name in FIELDS}, "positions": positions}
        record["previous"] = "" if last is None else last["hash"]
        self._file.append(record | {"hash": _sha256(to_line(record))})


def read_chain(run: Path) -> dict[int, Record]:
    """The records of a finished run by step, each checked against the one before and against the run's files.

    Raises:
        ReplayError: there is no chain, or it names the first step and field that do not hold.
    """
    path = run / "chain.jsonl"
    if not path.is_file() or not path.stat().st_size:
        raise ReplayError(f"{run} has no chain.jsonl: it is no run, has not finished a step, or is an older version's")
    contents = {name: _content(run, name) for name in COVERED}
    metrics = _metrics_by_step(run)
    records: dict[int, Record] = {}
    previous, before = "", dict.fromkeys(COVERED, 0)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        record = _parsed(line, path, number)
        step, after = record["step"], record["positions"]
        found: Record = {name: _sha256(contents[name][before[name] : after[name]]) for name in COVERED}
        found |= {"metrics": metrics.get(step), "previous": previous}
        found["hash"] = _sha256(to_line({name: value for name, value in record.items() if name != "hash"}))
        for name, value in found.items():
            if record.get(name) != value:
                raise ReplayError(_altered(run, step, name))
        records[step], previous, before = record, record["hash"], after
    _check_end(run, max(records), max(metrics, default=0))
    return records


def _check_end(run: Path, last: int, last_logged: int) -> None:
    """Refuse a chain that was cut; a run that was killed may have logged one step that it did not record."""
    if last_logged > last + 1:
        raise ReplayError(
            f"{run}/chain.jsonl ends at step {last}, and metrics.jsonl goes on to step {last_logged}: one is altered"
        )


def difference(recorded: Record, replayed: Record) -> str | None:
    """The first field in which two records of a step differ, or None."""
    return next((name for name in (*FIELDS, "hash") if recorded.get(name) != replayed.get(name)), None)


def _altered(run: Path, step: int, field: str) -> str:
    if field in ("metrics", *COVERED):
        return f"step {step}, field '{field}': {run / field}.jsonl does not hold what the step wrote"
    return f"step {step}, field '{field}': the chain itself is altered"


def _metrics_by_step(run: Path) -> dict[int, str]:
    """The hash of each training step's metrics."""
    found: dict[int, str] = {}
    for number, line in enumerate(_content(run, "metrics").splitlines(), start=1):
        try:
            values = json.loads(line)
            if "step_time" not in values:
                continue
            step, hashed = values.pop("step"), _untimed(values)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ReplayError(f"{run}/metrics.jsonl, line {number}: not what a step logged") from None
        if step in found:
            raise ReplayError(f"{run}/metrics.jsonl, line {number}: step {step} is there twice")
        found[step] = hashed
    return found


def _content(run: Path, name: str) -> bytes:
    path = run / f"{name}.jsonl"
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror}. Bring it back") from None


def _untimed(metrics: Mapping[str, float]) -> str:
    """The hash of metrics, in memory or as ``metrics.jsonl`` gives them back, without timings."""
    return _sha256(to_line({name: value for name, value in sorted(metrics.items()) if not is_timing(name)}))


def _parsed(line: bytes, path: Path, number: int) -> Record:
    try:
        record: Record = json.loads(line)
        numbers = [record["step"], *(record["positions"][name] for name in COVERED)]
        complete = record.keys() >= {"previous", "hash"} and all(type(number) is int for number in numbers)
    except (ValueError, KeyError, AttributeError, TypeError):
        complete = False
    if not complete:
        raise ReplayError(f"{path}, line {number}: no record of a step")
    return record


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
