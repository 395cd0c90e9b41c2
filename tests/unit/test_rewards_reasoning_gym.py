"""reasoning-gym's own scorers, run on what its own generators make; and answers that are programs."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import Question, ReasoningGymVerifier, Status
from rewards.reasoning_gym_child import RefusedError, evaluate_literal, parse_mathematics

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="the extra `reasoning-gym` is not installed"
)
COUNTDOWN = {  # an entry as the package's countdown makes it
    "question": "Calculate 309 using all of these numbers: 6, 61, 94, 4.",
    "answer": "94*4 - 61 - 6",
    "metadata": {"source_dataset": "countdown", "numbers": [6, 61, 94, 4], "target": 309},
}
LIST_TASK = {
    "question": "Given a binary matrix, find the distance to the nearest 0.",
    "answer": "0 1\n1 2",
    "metadata": {"source_dataset": "binary_matrix", "matrix": [[0, 1], [1, 1]], "solution": [[0, 1], [1, 2]]},
}


def question(entry: dict[str, object], **columns: object) -> Question:
    return Question(
        text=str(entry["question"]), reference=str(entry["answer"]), columns={"metadata": entry["metadata"], **columns}
    )


@pytest.fixture(scope="module")
def verifier() -> Iterator[ReasoningGymVerifier]:
    verifier = ReasoningGymVerifier(extract="whole", cpu_s=3.0)
    yield verifier
    verifier.close()


@needs_package
@pytest.mark.parametrize(
    ("answer", "score"),
    [("94*4 - 61 - 6", 1.0), ("4*94 - (61 + 6)", 1.0), ("94 + 4 + 61 + 6", 0.05), ("I do not know", 0.01)],
)
def test_the_task_scores_its_answer(verifier: ReasoningGymVerifier, answer: str, score: float) -> None:
    verdict = verifier.verify(answer, question(COUNTDOWN))
    assert verdict.score == pytest.approx(score)
    assert verdict.status is (Status.CORRECT if score == 1.0 else Status.WRONG)


@needs_package
def test_generated_entries_score_their_own_answers_in_full(verifier: ReasoningGymVerifier) -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym")
    tasks = ["leg_counting", "mini_sudoku", "simple_integration", "polynomial_equations", "number_sorting", "rearc"]
    for task in tasks:
        entry = reasoning_gym.create_dataset(task, size=1, seed=5)[0]
        as_json = {**entry, "metadata": json.dumps(entry["metadata"])}
        assert verifier.verify(entry["answer"], question(as_json)).score == 1.0, task


@needs_package
@pytest.mark.parametrize("entry", [COUNTDOWN, LIST_TASK], ids=["parser", "eval"])
def test_an_answer_that_is_a_program_is_not_run(
    verifier: ReasoningGymVerifier, entry: dict[str, object], tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    program = f"(__import__('os').mkdir({str(mark)!r}), 309)[1]"
    verdict = verifier.verify(program, question(entry))
    assert verdict.score is not None
    assert verdict.score < 0.1
    assert not mark.exists()


@needs_package
def test_an_answer_that_takes_for_ever_is_wrong_and_the_next_one_is_judged(verifier: ReasoningGymVerifier) -> None:
    verdict = verifier.verify("9**9**9**9", question(COUNTDOWN))
    assert (verdict.score, verdict.status) == (0.0, Status.TIMEOUT)
    assert verifier.verify("94*4 - 61 - 6", question(COUNTDOWN)).score == 1.0


@needs_package
@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"metadata": None}, "column 'metadata' = 'None'"),
        ({"metadata": "{"}, "column 'metadata' = "),
        ({"metadata": {"x": {1}}}, "column 'metadata' = "),
        ({"metadata": {}}, "column 'source_dataset' = None"),
        ({"metadata": {}, "source_dataset": "no_such_task"}, "no task 'no_such_task'"),
        ({"metadata": {}, "source_dataset": "mini_sudoku"}, "KeyError"),
    ],
)
def test_a_wrong_column_is_named(verifier: ReasoningGymVerifier, columns: dict[str, object], reason: str) -> None:
    verdict = verifier.verify("1 2", Question(text="", reference="1", columns=columns))
    assert (verdict.score, verdict.status) == (None, Status.HARNESS_ERROR)
    assert reason in verdict.reason


@needs_package
def test_the_task_may_be_an_argument() -> None:
    verifier = ReasoningGymVerifier(task="leg_counting")
    asked = Question(text="", reference="292", columns={"metadata": {}})
    assert verifier.verify("<answer>292</answer>", asked).score == 1.0
    assert verifier.verify("292", asked).status is Status.UNPARSED
    assert verifier.verify(f"<answer>{'2' * 30_000}</answer>", asked).status is Status.UNPARSED
    verifier.close()


def test_a_missing_package_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package reasoning-gym.*grpo\[reasoning-gym\]"):
        ReasoningGymVerifier()


@pytest.mark.parametrize(
    "source", ["__import__('os')", "open('x')", "().__class__", "[x for x in 'ab']", "lambda: 1", "f'{1}'"]
)
def test_literals_are_evaluated_and_nothing_else(source: str) -> None:
    with pytest.raises(RefusedError):
        evaluate_literal(source)
    assert evaluate_literal(" [[1, -2], (3 + 4) * 2] ") == [[1, -2], 14]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "x.__class__",
        "open(x)",
        "eval(x)",
        "exit()",
        "lambda: 1",
        "[1]",
        '"a"',
        "x .real",
        "x.\nreal",
        "breakpoint()",
        "ｅval(x)",
        "1" * 3000,
    ],
)
def test_the_parser_gets_mathematics_and_nothing_else(text: str) -> None:
    with pytest.raises(RefusedError):
        parse_mathematics(str, text)


@pytest.mark.parametrize(
    "text", ["2*x**2 - 3.5*x_1 + C", "sin(x)/sqrt(2*pi)", "82 + 20 - (67 / 50)", "exp(-y) + log(x)"]
)
def test_mathematics_reaches_the_parser(text: str) -> None:
    assert parse_mathematics(str, text) == text
