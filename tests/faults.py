"""Faults put into the real program: ``python -m tests.faults PLAN train RECIPE ...`` is ``grpo train RECIPE ...``.

PLAN is JSON, such as ``{"point": "after optimizer step", "occurrence": 3, "kind": "kill"}``: the third time that the
program comes to that point it is killed, or interrupted, or finds the disk full. The points are wrapped from outside;
the program itself knows nothing of them.
"""

import errno
import functools
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

# what happens at a point, as module:name
CALLS = {
    "sampling": "grpo.rollout:Rollout.sample",
    "scoring": "grpo.scoring:Scorer.score_all",
    "micro-batch": "grpo.learner.policy:Policy.backward",
    "optimizer step": "grpo.learner.optimizer:Optimizer.step",
    "publish": "grpo.weights:Publisher.publish",
    "proof": "grpo.weights:Publisher._check_receipt",
    "evaluation": "grpo.trainer:Trainer._evaluate",
    "line": "grpo.run_folder:JsonLines.append",
    "metrics": "grpo.metrics:Metrics.log",
    "chain": "grpo.chain:Chain.append",
    "checkpoint": "grpo.trainer:Trainer.save",
    "model files": "grpo.material:Material.save_model",
    "trainer state": "grpo.trainer:save_state",
    "manifest": "grpo.checkpoint_store:write_manifest",
    "flush": "grpo.checkpoint_store:_flush_tree",
    "reading back": "grpo.checkpoint_store:_read_back",
    "rename": "grpo.checkpoint_store:_move_into_place",
    "removal": "grpo.checkpoint_store:CheckpointStore._remove_oldest",
}
POINTS = tuple(f"{when} {call}" for call in CALLS for when in ("before", "after"))


def strike(kind: str) -> None:
    """Raises OSError for a full disk; a killed process does not come back."""
    if kind == "full disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}[kind])


def inject(plan: dict[str, Any]) -> None:
    """Have the program meet the plan's fault in this process."""
    when, _, call = plan["point"].partition(" ")
    module_name, path = CALLS[call].split(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, _faulty(getattr(owner, name), when, plan["occurrence"], plan["kind"]))


def _faulty(function: Callable[..., Any], when: str, occurrence: int, kind: str) -> Callable[..., Any]:
    calls = 0

    @functools.wraps(function)
    def faulty(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == occurrence and when == "before":
            strike(kind)
        result = function(*args, **kwargs)
        if calls == occurrence and when == "after":
            strike(kind)
        return result

    return faulty


if __name__ == "__main__":
    from grpo.cli import main

    inject(json.loads(sys.argv[1]))
    sys.argv = ["grpo", *sys.argv[2:]]
    main()
