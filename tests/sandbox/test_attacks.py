"""The attack suite: no program gets through, none gets hold of anything, and the sandbox is right after each."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewards.sandbox import Sandbox, SandboxUnavailableError
from tests.sandbox.attacks import ATTACKS, X86_64_ONLY, Attack

ROOT = Path(__file__).parents[2]
NOBODY = "65534"
RUNS_HERE = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.access(sys.executable, os.X_OK))"
CLASSES = {
    *("forged equality", "walks", "exits", "patches", "output", "bombs"),
    *("loops", "kills", "network", "files", "kernel"),
}


def ordinary_python() -> str | None:
    """An interpreter that everybody may run: this one can lie under somebody's private home."""
    for python in (getattr(sys, "_base_executable", sys.executable), shutil.which("python3", path="/usr/bin:/bin")):
        if python and subprocess.run([*as_nobody(), python, "-c", RUNS_HERE], check=False).returncode == 0:
            return python
    return None


def as_nobody() -> list[str]:
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@functools.cache
def results(user: str, tier: int, how: str) -> dict[str, dict[str, Any]]:
    """Of all attacks at once: half of the time would else go into starting up."""
    command, python = [], sys.executable
    if user == "ordinary" and os.geteuid() == 0:
        found = ordinary_python() if shutil.which("setpriv") else None
        if found is None:
            pytest.skip("no setpriv, or no Python 3.11 that an ordinary user may run")
        command, python = as_nobody(), found
    elif user == "root" and os.geteuid() != 0:
        pytest.skip("not root")
    done = subprocess.run(
        [*command, python, "-m", "tests.sandbox.run_attacks", str(tier), how],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "SandboxUnavailableError" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return {result["name"]: result for result in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("tier", [1, 2])
@pytest.mark.parametrize("how", ["here", "http"])
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_an_attack_gets_nothing(user: str, how: str, tier: int, attack: Attack) -> None:
    if attack.name in X86_64_ONLY and os.uname().machine != "x86_64":
        pytest.skip("written for x86_64")
    result = results(user, tier, how)[attack.name]
    assert not result["passed"]
    assert result["leaks"] == []
    assert result["survivors"] == []
    assert result["right_after"]
    assert result["status"] != "sandbox_failure", result["error"]
    if how == "http" and not attack.script:
        return  # a script may end in other ways than a call
    assert not attack.may_end_as or result["status"] in attack.may_end_as, result["error"]


# One of each class, on every run of the tests; the whole suite takes minutes.
SAMPLE = (
    *(
        "always_equal",
        "frames",
        "hard_exit_in_call",
        "forge_replies",
        "every_descriptor_flood",
        "fork_bomb",
        "kill_grader",
    ),
    *("abstract", "canary_file", "symlink", "ptrace", "x32_call"),
)


@pytest.mark.parametrize(("tier", "how"), [(1, "here"), (2, "here"), (1, "http")])
def test_a_sample_of_attacks_gets_nothing(tier: int, how: str) -> None:
    try:
        Sandbox(tier=tier).close()
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "-m", "tests.sandbox.run_attacks", str(tier), how, *SAMPLE],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) >= len(set(SAMPLE) - X86_64_ONLY)
    for result in outcomes:
        held = not (result["passed"] or result["leaks"] or result["survivors"]) and result["right_after"]
        assert held, result


def test_the_suite_has_programs_of_every_class() -> None:
    assert {attack.kind for attack in ATTACKS} == CLASSES
    assert len(ATTACKS) >= 60
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert set(SAMPLE) <= {attack.name for attack in ATTACKS}
