"""Somebody's own reward function: five conventions, and every bad behaviour a named verdict without a score."""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rewards.plugin import PluginVerifier
from rewards.verdict import Question, Status, Verdict

FUNCTIONS = """
import asyncio
import os
import time

from rewards.reward_function import reward
from rewards.verdict import Status, Verdict

LEAK = []

def brevity(completion, problem, scale=1.0):
    return scale / len(completion)

def judged(completion, problem):
    right = completion == problem.reference
    return Verdict(score=float(right), status=Status.CORRECT if right else Status.WRONG, extracted=completion)

async def later(completion, problem):
    await asyncio.sleep(0.01)
    return 0.5

def ranks(completions, problems):
    order = sorted(completions, key=len)
    return [float(order.index(completion)) for completion in completions]

def trl_text(completions, solution, **kwargs):
    return [1.0 if completion == wanted else 0.0 for completion, wanted in zip(completions, solution)]

def trl_messages(prompts, completions, solution, **kwargs):
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if content == wanted else None for content, wanted in zip(contents, solution)]

async def trl_async(completions, completion_ids, level, **kwargs):
    await asyncio.sleep(0)
    return [float(len(ids)) + grade for ids, grade in zip(completion_ids, level)]

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": 0.5 * (solution_str == ground_truth), "acc": solution_str == ground_truth}

def reward_func(queries, prompts, labels, **kwargs):
    return {"rewards": [float(query == prompt + label) for query, prompt, label in zip(queries, prompts, labels)]}

async def custom_rm(args, sample):
    return float(sample.response == sample.label)

@reward(placement="inline")
def own_process(completion, problem):
    return float(os.getpid())

@reward(placement="service")
def judge_over_http(completion, problem):
    time.sleep(0.01)
    return 1.0

def raises(completion, problem): raise KeyError("gold")
def spins(completion, problem):
    while True:
        try:
            while True: pass
        except BaseException: pass
def sleeps(completion, problem): time.sleep(60)
def one_for_all(completions, **kwargs): return [1.0]
def too_many(completions, **kwargs): return [1.0] * (len(completions) + 1)
def nan(completion, problem): return float("nan")
def infinity(completion, problem): return float("inf")
def none(completion, problem): return None
def text(completion, problem): return "1.0"
async def raises_later(completion, problem): raise RuntimeError("no answer from the judge")
def is_killed(completion, problem): os.kill(os.getpid(), 9)
def gigabyte(completion, problem): return "x" * (1 << 30)
def exits(completion, problem): raise SystemExit(0)
def leaks(completion, problem):
    LEAK.append(bytearray(60 << 20))
    return 1.0
def too_large(completion, problem): return 10 ** 400
def an_array(completion, problem):
    import numpy as np
    return np.array([0.5, 0.7])
class Odd(BaseException): pass
def raises_oddly(completion, problem): raise Odd("gone")
def lets_nothing_out(completions, solution, **kwargs):
    rewards = []
    for completion, wanted in zip(completions, solution):
        try:
            rewards.append(float(completion[0]["content"] == wanted))
        except Exception:
            rewards.append(0.0)
    return rewards
def by_tokens(completion_ids, **kwargs): return [float(len(ids)) for ids in completion_ids]
def with_its_own_target(completions, target="none", **kwargs): return [float(target == "none")] * len(completions)
def from_keywords(completions, **kwargs): return [float(c == s) for c, s in zip(completions, kwargs["solution"])]
def of_raw_prompts(prompts, completions, **kwargs): return [float(prompt == "2 + 2?") for prompt in prompts]
def tinyzero(data_source, solution_str, ground_truth, extra_info=None): return float(ground_truth["target"] == 4)
def starts_another(completion, problem):
    import subprocess
    return float(subprocess.Popen(["sleep", "97"], start_new_session=True).pid)
def stops_itself(completion, problem):
    import signal, threading
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGSTOP)).start()
    return 1.0
def of_two_things(left, right): return 1.0
def needs_a_column(completions, difficulty, **kwargs): return [float(d) for d in difficulty]
"""
QUESTION = Question(text="2 + 2?", reference="four", prompt="Q: 2 + 2? A: ", completion_ids=[1, 2, 3])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewards") / "my_rewards.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def load(file: Path) -> Iterator[Callable[..., PluginVerifier]]:
    made: list[PluginVerifier] = []

    def load_function(name: str, **settings: object) -> PluginVerifier:
        limits = {"cpu_s": 0.5, "deadline_s": 2.0, "memory_mb": 512}
        made.append(PluginVerifier(f"{file}:{name}", **{**limits, **settings}))  # type: ignore[arg-type]
        return made[-1]

    yield load_function
    for verifier in made:
        verifier.close()


@pytest.mark.parametrize(
    ("name", "convention", "right", "wrong"),
    [
        ("brevity", "ours", 0.25, 0.2),
        ("judged", "ours", 1.0, 0.0),
        ("later", "ours", 0.5, 0.5),
        ("trl_text", "TRL", 1.0, 0.0),
        ("trl_messages", "TRL", 1.0, None),
        ("compute_score", "verl", 0.5, 0.0),
        ("reward_func", "OpenRLHF", 1.0, 0.0),
        ("custom_rm", "slime", 1.0, 0.0),
        ("lets_nothing_out", "TRL", 1.0, 0.0),
        ("by_tokens", "TRL", 3.0, 3.0),
        ("with_its_own_target", "TRL", 1.0, 1.0),
        ("from_keywords", "TRL", 1.0, 0.0),
        ("of_raw_prompts", "TRL", 1.0, 1.0),
        ("judge_over_http", "ours", 1.0, 1.0),
    ],
)
def test_each_convention_runs_unchanged(
    load: Callable[..., PluginVerifier], name: str, convention: str, right: float, wrong: float | None
) -> None:
    verifier = load(name)
    assert verifier.convention == convention
    assert verifier.verify("four", QUESTION).score == right
    assert verifier.verify("seven", QUESTION).score == wrong


def test_columns_and_tokens_reach_a_function_of_trl(load: Callable[..., PluginVerifier]) -> None:
    questions = [
        Question(text="", reference="", columns={"level": level}, completion_ids=[0] * level) for level in (1, 2)
    ]
    verdicts = load("trl_async").verify_all(["a", "b"], questions)
    assert [verdict.score for verdict in verdicts] == [2.0, 4.0]


def test_a_function_of_a_group_sees_it_whole(load: Callable[..., PluginVerifier]) -> None:
    verifier = load("ranks")
    assert verifier.scope == "group"
    verdicts = verifier.verify_all(["ccc", "a", "bb"], [QUESTION] * 3)
    assert [verdict.score for verdict in verdicts] == [2.0, 0.0, 1.0]


def test_a_dict_of_verl_says_itself_what_is_correct(load: Callable[..., PluginVerifier]) -> None:
    assert load("compute_score").verify("four", QUESTION).status is Status.CORRECT  # at a score of 0.5


def test_arguments_of_the_recipe_reach_the_function(load: Callable[..., PluginVerifier]) -> None:
    assert load("brevity", args={"scale": 8.0}).verify("four", QUESTION).score == 2.0


def test_only_inline_functions_run_in_this_process(load: Callable[..., PluginVerifier]) -> None:
    assert load("own_process").verify("four", QUESTION).score == os.getpid()


BAD = {
    "raises": r"raised KeyError: 'gold' \(line \d+ of my_rewards.py\)",
    "spins": "ran past its CPU time",
    "sleeps": "ran past its wall time",
    "one_for_all": "returned 1 scores for 3 answers",
    "too_many": "returned 4 scores for 3 answers",
    "nan": "returned nan; a finite number is needed",
    "infinity": "returned inf; a finite number is needed",
    "none": "gave no score",
    "text": "returned str '1.0'; a number, a Verdict or None is needed",
    "raises_later": "raised RuntimeError: no answer from the judge",
    "is_killed": "ended with code -9",
    "gigabyte": "ran past its memory limit of 512 MiB",
    "exits": "raised SystemExit",
    "too_large": "returned inf; a finite number is needed",
    "an_array": "returned a ndarray; a number, a Verdict or None is needed",
    "raises_oddly": "raised Odd: gone",
    "needs_a_column": "needs 'difficulty', which is no column of the data",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_behaviour_is_a_named_verdict_without_a_score(load: Callable[..., PluginVerifier], name: str) -> None:
    verdicts = (
        load(name).verify_all(["four", "five", "six"], [QUESTION] * 3)
        if name not in ("spins", "sleeps")
        else [load(name).verify("four", QUESTION)]
    )
    for verdict in verdicts:
        assert verdict.score is None
        assert verdict.status is (Status.UNSCORED if name == "none" else Status.HARNESS_ERROR)
        assert_reason(verdict, name)


def assert_reason(verdict: Verdict, name: str) -> None:
    assert re.search(BAD[name], verdict.reason), verdict.reason
    assert f"my_rewards.py:{name}" in verdict.reason


def test_a_function_that_leaks_goes_on_in_fresh_processes(load: Callable[..., PluginVerifier]) -> None:
    verifier = load("leaks", cpu_s=5.0)
    verdicts = [verifier.verify("four", QUESTION) for _ in range(20)]  # 1.2 GB in a process of 512 MB
    assert {(verdict.score, verdict.reason) for verdict in verdicts} == {(1.0, "")}
    assert verifier.pool.num_replaced >= 2


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{file}:nowhere", "has no function 'nowhere'; it has an_array, brevity"),
        ("{file}:of_two_things", "of no convention. Known by: ours: completion"),
        ("{file}", "write FILE.py:FUNCTION"),
        ("{folder}/none.py:f", "there is no file"),
        ("{folder}/broken.py:f", "importing it raised SyntaxError"),
        ("no_such_package.rewards:f", "importing it raised ModuleNotFoundError"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_refused_at_once(file: Path, target: str, message: str) -> None:
    (file.parent / "broken.py").write_text("def f(completion, problem:\n")
    with pytest.raises(ValueError, match=message):
        PluginVerifier(target.format(file=file, folder=file.parent))


def test_an_argument_that_the_function_does_not_take_is_refused_at_once(file: Path) -> None:
    with pytest.raises(ValueError, match="args.scal: it takes no such argument; allowed are completion, problem"):
        PluginVerifier(f"{file}:brevity", args={"scal": 2.0})


def test_verls_own_column_of_the_ground_truth_is_what_its_scorers_get(load: Callable[..., PluginVerifier]) -> None:
    question = Question(text="", reference="4", columns={"reward_model": {"ground_truth": {"target": 4}}})
    assert load("tinyzero").verify("", question).score == 1.0


def test_what_a_function_starts_dies_with_its_process(load: Callable[..., PluginVerifier]) -> None:
    verifier = load("starts_another")
    started = verifier.verify("four", QUESTION).score
    assert started is not None
    assert Path(f"/proc/{int(started)}").exists()
    verifier.close()
    deadline = time.monotonic() + 10
    while _is_alive(int(started)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_alive(int(started))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stopped_process_is_given_up_at_its_deadline_also_while_it_is_written_to(
    load: Callable[..., PluginVerifier],
) -> None:
    verifier = load("stops_itself")
    assert verifier.verify("four", QUESTION).score == 1.0
    time.sleep(0.6)
    verdict = verifier.verify("y" * 300_000, QUESTION)
    assert (verdict.status, "ran past its wall time" in verdict.reason) == (Status.HARNESS_ERROR, True)
    assert verifier.verify("four", QUESTION).score == 1.0


def test_a_file_that_does_not_finish_importing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.worker._START_S", 3.0)
    (tmp_path / "slow.py").write_text("import time; time.sleep(1000)\ndef f(completion, problem): return 1.0\n")
    with pytest.raises(ValueError, match="slow.py:f.*did not start within 3 s"):
        PluginVerifier(f"{tmp_path}/slow.py:f")
