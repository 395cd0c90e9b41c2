"""grpo's losses and gradient norms against TRL's own, on 20 recorded batches, for every objective that both have.

    python benchmarks/against_trl.py [--quick] [--recorded FILE]
    python benchmarks/against_trl.py --record [--recorded FILE]

The first needs no TRL: the file has its answers. `--record` makes the file anew and needs TRL (`pip install trl`). A
figure is the worst of the batches, relative; docs/against_trl.md explains the settings and each convention.
`--quick`: the first three batches.
"""

import argparse
import sys
from pathlib import Path

from report import Row, at_most, print_report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.trl_batches import RECORDED, first_batches, load, save  # noqa: E402
from benchmarks.trl_comparison import ALLOWED, Differences, checkpoint, compare, logprob_differences  # noqa: E402
from benchmarks.trl_settings import SETTINGS, Convention  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="run TRL and write the file")
    parser.add_argument("--recorded", type=Path, default=RECORDED, metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.record:
        from benchmarks.trl_recorder import record

        save(args.recorded, record())
    recording = load(args.recorded)
    if args.quick:
        recording = first_batches(recording, 3)
    versions = ", ".join(f"{name} {version}" for name, version in recording.versions.items())
    print(f"{len(recording.batches)} batches, recorded with {versions}")
    with checkpoint() as folder:
        rows = [at_most("log-probabilities of old and ref", logprob_differences(recording, folder), "nats", ALLOWED)]
        for setting in SETTINGS:
            rows += rows_of(compare(setting, recording, folder))
    for convention in Convention:
        if convention is not Convention.NONE:
            names = [setting.name for setting in SETTINGS if setting.convention is convention]
            print(f"* {'; '.join(names)}: {convention}")
    print_report("against_trl", rows)


def rows_of(found: Differences) -> list[Row]:
    """Of one setting."""
    name = found.setting.name + (" *" if found.setting.convention else "")
    figures = {"loss": found.loss, "gradient norm": found.grad_norm}
    return [
        at_most(f"{name}: {figure}", value, "relative", ALLOWED)
        for figure, value in figures.items()
        if value is not None
    ]


if __name__ == "__main__":
    main()
