"""Reward files written for other trainers, and verifiers that fail, in whole runs with the real engine."""

from pathlib import Path

import pytest

from grpo.errors import VerifierError
from grpo.launch import train
from tests.e2e.test_train import lines, recipe, steps

pytest.importorskip("vllm", reason="needs vLLM (pip install 'grpo[cpu]')")

FILES = Path(__file__).parent / "reward_files"
FAILING = '''
import zlib

def sometimes(completion, problem, share):
    """Right or wrong by the answer tags; no verdict on a share of all answers, the same ones each time."""
    if zlib.crc32((problem.text + completion).encode()) % 1000 < 1000 * share:
        raise ConnectionError("the judge is out")
    return float(f"<answer>{problem.reference}</answer>" in completion)
'''


def rewards(*entries: str) -> str:
    return f"rewards=[{', '.join(entries)}]"


def test_a_reward_file_of_trl_runs_unchanged(tmp_path: Path) -> None:
    file = FILES / "trl_rewards.py"
    entries = (
        f"{{fn: '{file}:accuracy_reward'}}",
        f"{{fn: '{file}:format_reward', weight: 0.2}}",
        f"{{fn: '{file}:mean_length_reward', weight: 0.01}}",
        "{name: number}",
    )
    train(recipe(tmp_path / "run", rewards(*entries), "max_steps=2", "log.transcripts_per_step=16"), resume=False)
    for transcript in lines(tmp_path / "run" / "transcripts.jsonl"):
        verdicts = transcript["verdicts"]
        assert verdicts["accuracy_reward"]["score"] == verdicts["number"]["score"], transcript["completion"]
        total = verdicts["accuracy_reward"]["score"] + verdicts["number"]["score"]
        total += 0.2 * verdicts["format_reward"]["score"] + 0.01 * verdicts["mean_length_reward"]["score"]
        assert transcript["reward"] == pytest.approx(total)
    for step in steps(tmp_path / "run"):
        assert 0 < step["rewards/format_reward/mean"] <= 1
        assert "verdicts/harness_error" not in step


def test_a_scorer_of_verl_runs_unchanged(tmp_path: Path) -> None:
    entry = f"{{fn: '{FILES / 'verl_rewards.py'}:compute_score', args: {{format_score: 0.25}}}}"
    train(recipe(tmp_path / "run", rewards(entry), "max_steps=2", "log.transcripts_per_step=16"), resume=False)
    scores = {line["verdicts"]["compute_score"]["score"] for line in lines(tmp_path / "run" / "transcripts.jsonl")}
    assert {0.25, 1.0} <= scores <= {0.0, 0.25, 1.0}
    before = lines(tmp_path / "run" / "evaluations.jsonl")[0]["values"]
    assert 0.1 < before["pass@1"] < 0.6  # by the dict's own "acc", not by a score above 0


def test_answers_without_a_verdict_leave_their_group_and_beyond_the_bound_the_run_stops(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)

    def failing(share: float) -> str:
        return rewards(f"{{fn: '{tmp_path}/failing.py:sometimes', args: {{share: {share}}}}}")

    train(recipe(tmp_path / "few", failing(0.02), "max_steps=3"), resume=False)
    assert len(steps(tmp_path / "few")) == 3
    with pytest.raises(VerifierError, match=r"could not be scored \(allowed 5%\).*the judge is out"):
        train(recipe(tmp_path / "many", failing(0.6), "max_steps=3"), resume=False)


def test_the_audit_reports_a_verifier_that_can_be_fooled(tmp_path: Path) -> None:
    (tmp_path / "easy.py").write_text("def has_an_answer(completion, problem): return '</answer>' in completion\n")
    run = recipe(
        tmp_path / "run",
        rewards(f"{{fn: '{tmp_path}/easy.py:has_an_answer'}}"),
        "scoring.audit={name: number, share: 0.5}",
        "max_steps=2",
    )
    train(run, resume=False)
    for step in steps(tmp_path / "run"):
        assert step["audit/num_checked"] > 0
        assert step["audit/gap"] > 0.2  # the base answers a fifth to a half of the problems right
