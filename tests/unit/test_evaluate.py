"""Estimators against enumeration, and evaluation end to end over a scripted engine."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo.datatypes import Completion, FinishReason, Problem, Prompt, ScoredCompletion, Segment
from grpo.engine.protocol import Request, Sampling
from grpo.errors import EngineError, VerifierError
from grpo.estimators import bootstrap_intervals, majority_at_k, pass_at_k, ratios
from grpo.evaluation import Evaluation, evaluate, has_reasoning, sample_sizes, summarize
from grpo.seeds import named_seed
from grpo.weights import Receipt, Tensors, fingerprint
from rewards.verdict import Status, Verdict


def enumerated_pass(correct: Sequence[bool], k: int) -> float:
    draws = list(combinations(correct, k))
    return sum(map(any, draws)) / len(draws)


def enumerated_majority(votes: Sequence[str | None], correct: Sequence[bool], k: int) -> float:
    """Every subset of k; the winners share equally; a winner counts by the share of its answers that are correct."""
    right: dict[str, list[bool]] = {}
    for vote, is_right in zip(votes, correct, strict=True):
        if vote is not None:
            right.setdefault(vote, []).append(is_right)
    total, num_draws = 0.0, 0
    for draw in combinations(votes, k):
        num_draws += 1
        counts = Counter(vote for vote in draw if vote is not None)
        winners = [vote for vote, count in counts.items() if count == max(counts.values())]
        total += sum(sum(right[vote]) / len(right[vote]) for vote in winners) / max(1, len(winners))
    return total / num_draws


@pytest.mark.parametrize("num_samples", range(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_answer(num_samples: int) -> None:
    for num_correct in range(num_samples + 1):
        correct = [index < num_correct for index in range(num_samples)]
        for k in range(1, num_samples + 1):
            expected = enumerated_pass(correct, k)
            assert pass_at_k(num_samples, num_correct, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_stays_exact_for_many_samples() -> None:
    expected = 1 - math.prod(1 - 512 / (1024 - i) for i in range(1))
    assert pass_at_k(1024, 512, 1) == pytest.approx(expected, abs=1e-12)
    assert 0 < pass_at_k(1024, 1, 512) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_what_has_no_meaning(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="need 1 <= k <= n"):
        pass_at_k(n, c, k)


ANSWERS = st.lists(st.tuples(st.sampled_from(["4", "5", "6", "7", None]), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(answers=ANSWERS, data=st.data())
def test_majority_at_k_equals_enumeration(answers: list[tuple[str | None, bool]], data: st.DataObject) -> None:
    votes, correct = [vote for vote, _ in answers], [right for _, right in answers]
    k = data.draw(st.integers(1, len(answers)))
    assert majority_at_k(votes, correct, k) == pytest.approx(enumerated_majority(votes, correct, k), abs=1e-12)


def test_majority_of_many_is_quick_and_stays_a_probability() -> None:
    votes = [str(index % 40) for index in range(256)]
    correct = [vote == "0" for vote in votes]
    value = majority_at_k(votes, correct, 128)
    assert 0 < value < 1


def test_unread_answers_take_a_place_but_no_vote() -> None:
    assert majority_at_k(["4", None, None, None], [True, False, False, False], 4) == 1
    assert majority_at_k(["4", None, None, None], [True, False, False, False], 1) == 0.25
    assert majority_at_k([None, None], [False, False], 2) == 0


def test_majority_at_k_refuses_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="need 1 <= k <= n"):
        majority_at_k(["4"], [True], 2)
    with pytest.raises(ValueError, match="need 1 <= k <= n"):
        majority_at_k(["4", "5"], [True], 1)


def test_intervals_cover_the_mean_as_the_normal_law_says() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((400, 1), dtype=np.float64)
    ones = np.ones_like(values)
    low, high = bootstrap_intervals(values, ones, seed=1)[0]
    half_width = 1.96 * float(values.std()) / math.sqrt(len(values))
    mean = ratios(values, ones)[0]
    assert low == pytest.approx(mean - half_width, abs=0.005)
    assert high == pytest.approx(mean + half_width, abs=0.005)


def test_intervals_follow_from_the_seed() -> None:
    values, ones = np.arange(20, dtype=np.float64).reshape(-1, 1), np.ones((20, 1))
    first = bootstrap_intervals(values, ones, seed=1)
    assert (first == bootstrap_intervals(values, ones, seed=1)).all()
    assert (first != bootstrap_intervals(values, ones, seed=2)).any()


def test_a_statistic_that_counts_nothing_is_not_a_number() -> None:
    nothing = np.zeros((5, 1))
    assert np.isnan(ratios(nothing, nothing)).all()
    assert np.isnan(bootstrap_intervals(nothing, nothing, seed=0)).all()


@pytest.mark.parametrize(("n", "sizes"), [(1, (1,)), (2, (1, 2)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))])
def test_sizes_are_powers_of_two_and_n(n: int, sizes: tuple[int, ...]) -> None:
    assert sample_sizes(n) == sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>2+2=4</think><answer>4</answer>", True),
        ("so <think>\n x \n</think>", True),
        ("<think></think>4", False),
        ("<think> \n</think> 4 </think>", False),
        ("2+2=4</think>", False),
        ("<think>2+2=4", False),
        ("</think> 4 <think>", False),
        ("4", False),
    ],
)
def test_reasoning_stands_inside_a_closed_tag(text: str, expected: bool) -> None:
    assert has_reasoning(text) is expected


class ScriptedEngine:
    """A policy that answers from a table whatever its weights, last request first; keeps the requests."""

    version = 0

    def __init__(self, texts: dict[str, list[str]], *, lose: int = 0) -> None:
        self.texts, self.lose = texts, lose
        self.requests: list[Request] = []

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.requests += requests
        for request in reversed(requests[self.lose :]):
            text = self.texts[request.prompt.problem.problem_id][request.sample_index]
            yield make_completion(request.prompt, request.sample_index, text, request.sampling.max_tokens)

    def load(self, tensors: Tensors, version: int) -> Receipt:
        self.version = version
        return Receipt(version=version, hashes={name: fingerprint(tensor) for name, tensor in tensors})

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.full(len(token_ids) - 1, -math.log(256), dtype=np.float32)

    def close(self) -> None:
        self.requests.clear()


def make_completion(prompt: Prompt, index: int, text: str, max_tokens: int) -> Completion:
    ids = np.frombuffer(text.encode()[:max_tokens], dtype=np.uint8).astype(np.int64)
    finish: FinishReason = "length" if len(text) > max_tokens else "stop"
    segment = Segment(token_ids=ids, behavior_logprobs=np.zeros(len(ids), np.float32), version=0)
    return Completion(prompt=prompt, sample_index=index, segments=(segment,), finish_reason=finish, text=text)


def judge(completion: Completion) -> ScoredCompletion:
    """Reads what follows the last ``=`` or tag; ``!`` makes the verifier fail."""
    text = completion.text.rpartition(">")[2]
    if "!" in text:
        verdict = Verdict(score=None, status=Status.HARNESS_ERROR, reason="worker died")
    elif not text.isdigit():
        verdict = Verdict(score=0.0, status=Status.UNPARSED, extracted=text)
    else:
        right = text == completion.prompt.problem.reference
        status = Status.CORRECT if right else Status.WRONG
        verdict = Verdict(score=float(right), status=status, extracted=text)
    verdicts = {"number": verdict, "other": Verdict(score=0.0, status=Status.WRONG)}
    return ScoredCompletion(completion=completion, verdicts=verdicts, reward=verdict.score)


def run(
    texts: dict[str, list[str]], *, seed: int = 0, engine: ScriptedEngine | None = None, sources: Sequence[str] = ("",)
) -> Evaluation:
    problems = [
        Problem(problem_id=name, question="2+2", reference="4", source=sources[place % len(sources)])
        for place, name in enumerate(texts)
    ]
    prompts = [Prompt(problem=problem, token_ids=(1,), ordinal=ordinal) for ordinal, problem in enumerate(problems)]
    return evaluate(
        engine or ScriptedEngine(texts),
        prompts,
        score_all=lambda completions, group_size: [judge(completion) for completion in completions],
        accuracy="number",
        sampling=Sampling(max_tokens=20),
        num_samples=len(next(iter(texts.values()))),
        seed=seed,
    )


TEXTS = {
    "a": ["4", "4", "<think>2+2=5</think>5", "none"],
    "b": ["<think>2+2=4</think>4", "6", "6", "7"],
}


def test_every_statistic_of_a_small_evaluation() -> None:
    evaluation = run(TEXTS)
    values = evaluation.values
    assert (evaluation.num_problems, evaluation.num_samples, evaluation.num_unscored) == (2, 4, 0)
    assert values["pass@1"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert values["pass@2"] == pytest.approx((5 / 6 + 3 / 6) / 2)
    assert values["pass@4"] == 1
    assert values["maj@4"] == pytest.approx((1 + 0) / 2)
    votes_a, votes_b = ["4", "4", "5", None], ["4", "6", "6", "7"]
    expected = [enumerated_majority(votes, [vote == "4" for vote in votes], 2) for votes in (votes_a, votes_b)]
    assert values["maj@2"] == pytest.approx(sum(expected) / 2)
    assert values["mean_length"] == pytest.approx((1 + 1 + 20 + 4 + 20 + 1 + 1 + 1) / 8)
    assert values["reasons"] == pytest.approx(2 / 8)
    assert values["accuracy_given_reasoning"] == pytest.approx(1 / 2)
    assert values["clipped"] == pytest.approx(2 / 8)
    assert values["unscored"] == 0
    assert set(evaluation.intervals) == set(values)
    assert set(values) == {
        *("pass@1", "pass@2", "pass@4", "maj@2", "maj@4"),
        *("mean_length", "reasons", "accuracy_given_reasoning", "clipped", "unscored"),
    }


def test_intervals_hold_the_value_and_run_between_the_two_problems() -> None:
    evaluation = run(TEXTS)
    assert evaluation.intervals["pass@1"] == pytest.approx((0.25, 0.5))
    for name, (low, high) in evaluation.intervals.items():
        assert low <= evaluation.values[name] <= high


def test_answers_whose_verifier_failed_leave_the_statistics_and_are_counted() -> None:
    evaluation = run({"a": ["4", "!", "5", "!"], "b": ["!", "!", "!", "!"], "c": ["4", "4", "4", "4"]})
    assert evaluation.num_unscored == 6
    assert evaluation.values["unscored"] == pytest.approx(6 / 12)
    assert evaluation.values["pass@1"] == pytest.approx((1 / 2 + 1) / 2)
    assert evaluation.values["pass@4"] == 1
    assert evaluation.values["mean_length"] == 1


def test_an_evaluation_in_which_nothing_could_be_scored_stops() -> None:
    with pytest.raises(
        VerifierError, match=r"none of 4 answers could be scored by 'number'; first reason: worker died"
    ):
        run({"a": ["!", "!"], "b": ["!", "!"]})


def test_an_answer_that_the_engine_lost_stops() -> None:
    with pytest.raises(EngineError, match=r"lost 1 of 8 answers; first: answer 0 to a#0"):
        run(TEXTS, engine=ScriptedEngine(TEXTS, lose=1))


def test_seeds_depend_on_the_problem_and_the_sample_alone() -> None:
    engine = ScriptedEngine(TEXTS)
    run(TEXTS, seed=7, engine=engine)
    seeds = {(r.prompt.problem.problem_id, r.sample_index): r.seed for r in engine.requests}
    assert seeds == {(name, i): named_seed("eval", 7, name, i) for name in "ab" for i in range(4)}
    turned = ScriptedEngine(TEXTS)
    run({"b": TEXTS["b"], "a": TEXTS["a"]}, seed=7, engine=turned)
    assert {(r.prompt.problem.problem_id, r.sample_index): r.seed for r in turned.requests} == seeds


def test_the_same_answers_give_the_same_evaluation() -> None:
    assert run(TEXTS, seed=3) == run(TEXTS, seed=3)


def test_the_accuracy_is_that_of_the_reward_named() -> None:
    prompt = Prompt(problem=Problem(problem_id="a", question="", reference="4"), token_ids=(1,), ordinal=0)
    answers = [[judge(make_completion(prompt, 0, "4", 9))]]
    assert summarize(answers, accuracy="number", seed=0).values["pass@1"] == 1
    assert summarize(answers, accuracy="other", seed=0).values["pass@1"] == 0


def test_metrics_bear_verls_names_and_leave_out_what_is_no_number() -> None:
    metrics = run({"a": ["4", "5"], "b": ["4", "4"]}).metrics("gsm8k")
    assert set(metrics) == {
        *("val-core/gsm8k/acc/mean@2", "val-core/gsm8k/acc/best@2", "val-core/gsm8k/acc/maj@2"),
        *("val-aux/gsm8k/mean_length", "val-aux/gsm8k/reasons", "val-aux/gsm8k/clipped", "val-aux/gsm8k/unscored"),
    }
    assert metrics["val-core/gsm8k/acc/mean@2"] == pytest.approx(0.75)
    assert metrics["val-core/gsm8k/acc/best@2"] == 1
    assert metrics["val-core/gsm8k/acc/maj@2"] == pytest.approx(0.75)


def test_problems_of_several_sources_have_metrics_of_their_own() -> None:
    evaluation = run({"a": ["4", "4"], "b": ["5", "4"], "c": ["4", "4"]}, sources=("sums", "owner/others"))
    metrics = evaluation.metrics("sums")
    means = {name: value for name, value in metrics.items() if name.endswith("mean@2")}
    assert means == {"val-core/sums/acc/mean@2": 1.0, "val-core/owner/others/acc/mean@2": 0.5}
    assert evaluation.values["pass@1"] == pytest.approx(5 / 6), "the whole weighs problems, not sources"
    again = Evaluation.from_json(json.loads(json.dumps(evaluation.to_json(), allow_nan=False)))
    assert again.metrics("sums") == metrics
    assert run({"a": ["4"], "b": ["4"]}, sources=("sums",)).parts == {}


def test_one_sample_a_problem_is_enough() -> None:
    values = run({"a": ["4"], "b": ["5"]}).values
    assert values["pass@1"] == values["maj@1"] == 0.5


def test_an_evaluation_survives_strict_json() -> None:
    evaluation = run({"a": ["4", "5"], "b": ["4", "4"]})
    assert math.isnan(evaluation.values["accuracy_given_reasoning"])
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    again = Evaluation.from_json(json.loads(text))
    assert again.to_json() == evaluation.to_json()
    assert again.intervals["pass@1"] == evaluation.intervals["pass@1"]
    assert math.isnan(again.values["accuracy_given_reasoning"])


def test_tool_use_is_a_share_of_the_answers_and_left_out_where_nobody_calls() -> None:
    prompt = Prompt(problem=Problem(problem_id="a", question="", reference="4"), token_ids=(1,), ordinal=0)
    plain = make_completion(prompt, 0, "4", 9)
    output = Segment(
        token_ids=np.array([7]), behavior_logprobs=np.zeros(1, np.float32), version=0, source="environment"
    )
    called = replace(plain, sample_index=1, segments=(*plain.segments, output))
    assert summarize([[judge(plain), judge(called)]], accuracy="number", seed=0).values["uses_tool"] == 0.5
    assert "uses_tool" not in summarize([[judge(plain)]], accuracy="number", seed=0).values
