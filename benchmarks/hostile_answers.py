"""10,000 hostile answers through every kind of verifier: do descriptors, processes and memory stay flat?

    python benchmarks/hostile_answers.py [--quick] [--answers N]

The texts of ``rewards.hostile`` and mutations of them (cut, joined, wrapped in boxes and tags), judged against
references of several kinds by ``math_answer``, ``number``, ``countdown``, ``format`` and a function that leaks.
Memory is counted from a tenth of the way on, when every process has warmed up; descriptors and processes by what is
left when the verifiers are closed.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from report import Row, at_most, print_report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rewards import PluginVerifier, Question, Verdict, Verifier, make_verifier  # noqa: E402
from rewards.hostile import HOSTILE  # noqa: E402

REFERENCES = ("7", r"\frac{1}{2}", r"x^2+1", r"(1, 2]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\int_0^1 x\,dx")
LEAKING = """
KEPT = []
def leaks(completion, problem):
    KEPT.append(completion * 20)
    return float(len(completion) % 2)
"""
NUM_PROCESSES = 3  # two for mathematics, one for the function


class Usage(NamedTuple):
    descriptors: int
    processes: int
    memory_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--answers", type=int, default=10_000)
    args = parser.parse_args()
    count = 500 if args.quick else args.answers
    before = usage()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "leaking.py"
        file.write_text(LEAKING)
        verifiers: list[Verifier] = [
            make_verifier("math_answer", extract="auto", num_workers=2),
            make_verifier("number", extract="last_number"),
            make_verifier("countdown"),
            make_verifier("format"),
            PluginVerifier(f"{file}:leaks", memory_mb=256),
        ]
        rows = soak(verifiers, count)
        for verifier in verifiers:
            verifier.close()
        after = usage()
    rows.append(at_most("descriptors left when closed", after.descriptors - before.descriptors, "", 0))
    rows.append(at_most("processes left when closed", after.processes - before.processes, "", 0))
    print_report("hostile_answers", rows)


def soak(verifiers: list[Verifier], count: int) -> list[Row]:
    rng = random.Random(0)
    warm, slowest, unscored, most = None, 0.0, Counter[str](), 0
    for number in range(count):
        if number == count // 10:
            warm = usage()
        text = hostile_text(rng)
        reference = rng.choice(REFERENCES)
        for verifier in verifiers:
            own = reference if verifier.check_reference(reference) is None else REFERENCES[0]
            question = Question(text="?", reference=own, columns={"nums": [1, 2, 3], "target": 6})
            started = time.perf_counter()
            verdict: Verdict = verifier.verify(text, question)
            slowest = max(slowest, time.perf_counter() - started)
            if verdict.score is None:
                unscored[f"{verifier.name}: {verdict.reason[:100]}"] += 1
        most = max(most, usage().processes)
    assert warm is not None
    for reason, times in unscored.most_common(10):
        print(f"{times} times without a score: {reason}")
    return [
        Row("answers", count, ""),
        Row("slowest verdict, wall", slowest, "s"),
        at_most("verdicts without a score", unscored.total(), "", 0),
        at_most("processes at a time", most, "", NUM_PROCESSES),
        at_most("memory gained, this process", usage().memory_mb - warm.memory_mb, "MB", 30),
    ]


def hostile_text(rng: random.Random) -> str:
    text = rng.choice(list(HOSTILE.values()))
    if rng.random() < 0.5:
        start = rng.randrange(len(text) + 1)
        text = text[start : start + rng.randrange(1, 5_000)]
    if rng.random() < 0.3:
        text += rng.choice(list(HOSTILE.values()))[:2_000]
    wrapped = (text, f"\\boxed{{{text}}}", f"<answer>{text}</answer>", f"the final answer is {text}")
    return rng.choice(wrapped)


def usage() -> Usage:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Usage(len(os.listdir("/proc/self/fd")), len(children), pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


if __name__ == "__main__":
    main()
