"""How fast weights reach an engine in a process of its own, against the engine's own reload.

    python benchmarks/publish.py --model FOLDER [--quick]

Both sides load the same tensors in turn: an engine in this process, from this process' memory, and a fleet of one,
through the parcel in shared memory, hashes and checks included on both. Then the whole publish, with its proof, as a
share of the step: 64 answers of at most 256 tokens, sampled by the fleet and learned from. ``--quick``: fewer rounds,
and the step is left out.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from report import Row, at_least, at_most, print_report
from runs import train
from step import SMOLLM2, UNMEASURED

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grpo.engine import make_engine  # noqa: E402
from grpo.engine.fleet import EngineFleet  # noqa: E402
from grpo.engine.protocol import Engine  # noqa: E402
from grpo.engine.replica import Start  # noqa: E402
from grpo.learner import Policy  # noqa: E402
from grpo.recipe import Rollout  # noqa: E402

GOAL_RATE, GOAL_SHARE = 0.70, 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a checkpoint, such as SmolLM2-135M")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in ("bfloat16",) if args.quick else ("bfloat16", "float32"):
            rows += rate_rows(str(args.model), dtype, Path(scratch), rounds=3 if args.quick else 7)
        if not args.quick:
            rows += step_rows(args.model, Path(scratch))
    print_report("publish", rows)


def rate_rows(model: str, dtype: str, logs: Path, rounds: int) -> list[Row]:
    """Medians over rounds in which both sides load in turn, after one each that is not counted."""
    tensors = dict(Policy.load(model, dtype=getattr(torch, dtype), device="cpu").named_tensors())
    size = sum(tensor.nbytes for tensor in tensors.values())
    rollout = Rollout(problems_per_step=1, num_generations=2, max_completion_length=64, max_num_seqs=16)
    start = Start(model=model, rollout=rollout, dtype=dtype, max_model_len=128, on_gpu=False, seed=0)
    fleet = EngineFleet(start, num_replicas=1, decode=str, logs=logs, num_threads=torch.get_num_threads(), report=print)
    single = make_engine(module=None, decode=str, **dataclasses.asdict(start) | {"rollout": rollout})
    own, parcel = [], []
    for version in range(1, rounds + 2):
        own.append(seconds_of_load(single, tensors, version))
        parcel.append(seconds_of_load(fleet, tensors, version))
    single.close()
    fleet.close()
    own_rate, parcel_rate = (size / median(seconds[1:]) / 1e9 for seconds in (own, parcel))
    label = f"{Path(model).name} {dtype}, {len(tensors)} tensors of {size / 1e6:.0f} MB, median of {rounds}"
    return [
        Row(f"{label}: the engine's own reload", own_rate, "GB/s"),
        Row(f"{label}: through the parcel", parcel_rate, "GB/s"),
        at_least(f"{label}: parcel over own", parcel_rate / own_rate, "", GOAL_RATE),
    ]


def seconds_of_load(engine: Engine, tensors: dict[str, torch.Tensor], version: int) -> float:
    started = time.perf_counter()
    receipt = engine.load(iter(tensors.items()), version)
    assert receipt.hashes.keys() == tensors.keys(), "everything arrived"
    return time.perf_counter() - started


def step_rows(model: Path, scratch: Path) -> list[Row]:
    """The publish as training has it: with the proof on the replica, beside its step."""
    overrides = [*UNMEASURED, *SMOLLM2, f"model={model}", "max_steps=5", "rollout.num_engines=1"]
    run = train("smollm2_arithmetic", scratch / "run", overrides)
    publish, step = run.median("time/publish_s"), run.median("step_time")
    label = "bfloat16, 64 answers of at most 256 tokens, one replica"
    return [
        Row(f"{label}: publish and proof", publish, "s"),
        Row(f"{label}: step", step, "s"),
        at_most(f"{label}: share of the step", publish / step, "", GOAL_SHARE),
    ]


if __name__ == "__main__":
    main()
