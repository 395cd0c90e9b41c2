"""HumanEval (arXiv 2107.03374) through ``code_tests``: which programs pass that should, and which that should not.

    python benchmarks/humaneval.py --data FILE [--quick]

FILE is ``HumanEval.jsonl``, gzipped or not. Per problem five programs: the reference, an empty body, a constant, a
crash, and the reference with one operator flipped (its first; a few such programs are still right). ``--quick``: every
fourth problem.
"""

import argparse
import ast
import gzip
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from report import Row, at_least, at_most, print_report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rewards import Question, Verdict  # noqa: E402
from rewards.code_tests import CodeTestsVerifier  # noqa: E402

BAD_BODIES = {"an empty body": "    pass\n", "a constant": "    return 1\n", "a crash": "    raise KeyError(1)\n"}
FLIPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


class Problem(NamedTuple):
    question: Question
    solution: str
    flipped: str | None  # None where the reference has no operator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="HumanEval.jsonl, or HumanEval.jsonl.gz")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    problems = [read_problem(row) for row in read_rows(args.data)][:: 4 if args.quick else 1]
    verifier = CodeTestsVerifier(extract="whole")
    try:
        rows = judge_all(verifier, problems)
    finally:
        verifier.close()
    print_report("humaneval", rows)


def judge_all(verifier: CodeTestsVerifier, problems: list[Problem]) -> list[Row]:
    right = [verifier.verify(problem.solution, problem.question) for problem in problems]
    for problem, verdict in zip(problems, right, strict=True):
        if verdict.score != 1.0:
            print(f"{problem.question.columns['task_id']}: {verdict.status.value}: {verdict.reason}", file=sys.stderr)
    rows = [
        Row("problems", len(problems), "of 164"),
        at_least("references that pass", num_passed(right), "programs", len(problems)),
        Row("a verdict, median", 1e3 * statistics.median(verdict.seconds for verdict in right), "ms"),
    ]
    for name, body in BAD_BODIES.items():
        verdicts = [verifier.verify(body, problem.question) for problem in problems]
        rows.append(at_most(f"{name}: programs that pass", num_passed(verdicts), "programs", 0))
    flipped = [problem for problem in problems if problem.flipped is not None]
    verdicts = [verifier.verify(problem.flipped or "", problem.question) for problem in flipped]
    rows.append(Row("references with an operator flipped", len(flipped), "programs"))
    rows.append(Row("an operator flipped: programs that pass", num_passed(verdicts), "programs"))
    rows.append(at_most("an operator flipped: without a score", num_unscored(verdicts), "programs", 0))
    return rows


def num_passed(verdicts: list[Verdict]) -> int:
    return sum(verdict.score == 1.0 for verdict in verdicts)


def num_unscored(verdicts: list[Verdict]) -> int:
    return sum(verdict.score is None for verdict in verdicts)


def read_rows(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.splitlines()]


def read_problem(row: Mapping[str, str]) -> Problem:
    columns = {name: row[name] for name in ("task_id", "entry_point", "test")}
    question = Question(text=row["prompt"], reference=row["canonical_solution"], columns=columns)
    return Problem(question, row["canonical_solution"], flip_first(row["prompt"] + row["canonical_solution"]))


def flip_first(source: str) -> str | None:
    """The program with its first operator turned into another; None where it has none.

    >>> flip_first("def add(a, b):\\n    return a + b")
    'def add(a, b):\\n    return a - b'
    """
    tree = ast.parse(source)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare)]
    if not found:
        return None
    node = min(found, key=lambda node: (node.lineno, node.col_offset))
    if isinstance(node, ast.Compare):
        node.ops[0] = FLIPS[type(node.ops[0])]()  # type: ignore[assignment]
    elif type(node.op) in FLIPS:
        node.op = FLIPS[type(node.op)]()  # type: ignore[assignment]
    return ast.unparse(tree)


if __name__ == "__main__":
    main()
