"""Records of the run folder: one transcript per line, one ledger entry per line."""

from typing import Any

from grpo.buffer import LedgerEntry
from grpo.datatypes import ScoredCompletion
from rewards.verdict import Verdict


def transcript_record(step: int, member: ScoredCompletion) -> dict[str, Any]:
    """A sampled answer with its prompt's problem, its verdicts and its reward."""
    completion = member.completion
    return {
        "step": step,
        "group_id": completion.prompt.group_id,
        "sample_index": completion.sample_index,
        "version": completion.version,
        "question": completion.prompt.problem.question,
        "reference": completion.prompt.problem.reference,
        "completion": completion.text,
        "num_tokens": completion.num_tokens,
        "finish_reason": completion.finish_reason,
        "reward": member.reward,
        "verdicts": {name: _verdict_record(verdict) for name, verdict in member.verdicts.items()},
        **({"audit": _verdict_record(member.audit)} if member.audit is not None else {}),
    }


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    return {
        "score": verdict.score,
        "status": verdict.status.value,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
    }


def ledger_record(entry: LedgerEntry) -> dict[str, Any]:
    """The one end of one group."""
    return {
        "group_id": entry.group_id,
        "ordinal": entry.ordinal,
        "end": entry.end,
        "reason": entry.reason,
        "step": entry.step,
    }
