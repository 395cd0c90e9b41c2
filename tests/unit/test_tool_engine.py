"""Answers in turns: what the policy wrote, what the environment answered, and which of it is learned from."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from grpo.advantages import to_samples
from grpo.datatypes import Completion, Group, ScoredCompletion, Segment
from grpo.engine.protocol import Request, Sampling
from grpo.engine.tool_engine import ToolEngine
from grpo.python_tool import PythonTool
from grpo.weights import Receipt, Tensors
from rewards.verdict import Status, Verdict
from tests.factories import make_prompt

CALL = "<python>print(6*7)</python>"


def encode(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def decode(token_ids: Sequence[int]) -> str:
    return "".join(chr(token) for token in token_ids)


class Script:
    """An engine that says, for each turn of each answer, what it was told to, and stops where it was told to."""

    version = 3

    def __init__(self, turns: dict[int, list[str]]) -> None:
        self._turns = {index: list(texts) for index, texts in turns.items()}
        self.requests: list[Request] = []

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.requests += requests
        for request in reversed(requests):
            whole = self._turns[request.sample_index].pop(0)
            text = whole[: request.sampling.max_tokens]
            yield Completion(
                prompt=request.prompt,
                sample_index=request.sample_index,
                segments=(
                    Segment(
                        token_ids=np.array(encode(text)),
                        behavior_logprobs=np.full(len(text), -0.5, np.float32),
                        version=self.version,
                    ),
                ),
                finish_reason="stop" if text == whole else "length",
                text=text,
            )

    def load(self, tensors: Tensors, version: int) -> Receipt:
        raise NotImplementedError

    def score(self, token_ids: Sequence[int]) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def tool() -> Iterator[PythonTool]:
    made = PythonTool(num_workers=2)
    yield made
    made.close()


def sample(tool: PythonTool, turns: dict[int, list[str]], *, max_tokens: int = 200, max_calls: int = 1):
    script = Script(turns)
    engine = ToolEngine(script, tool, encode=encode, decode=decode, max_calls=max_calls, num_threads=2)
    prompt = make_prompt(4, token_ids=encode("Q:"))
    requests = [
        Request(prompt=prompt, sample_index=index, seed=100 + index, sampling=Sampling(max_tokens=max_tokens))
        for index in turns
    ]
    answers = {completion.sample_index: completion for completion in engine.sample(requests)}
    return answers, script


def test_a_call_is_answered_and_the_policy_goes_on_from_it(tool: PythonTool) -> None:
    answers, script = sample(tool, {0: [CALL, "<answer>42</answer>"], 1: ["<answer>41</answer>"]})
    assert answers[0].text == f"{CALL}<output>42</output><answer>42</answer>"
    assert [segment.source for segment in answers[0].segments] == ["policy", "environment", "policy"]
    assert answers[0].finish_reason == "stop"
    assert answers[1].text == "<answer>41</answer>"
    first, second = script.requests[0], script.requests[-1]
    assert decode(second.prompt.token_ids) == f"Q:{CALL}<output>42</output>"
    assert second.sampling.max_tokens == 200 - len(f"{CALL}<output>42</output>")
    assert first.sampling.stop == second.sampling.stop == ("</python>",)
    assert first.seed != second.seed
    assert answers[0].prompt.token_ids == first.prompt.token_ids, "the answer's prompt is the problem's"


def test_only_what_the_policy_wrote_is_learned_from(tool: PythonTool) -> None:
    answers, _ = sample(tool, {0: [CALL, "<answer>42</answer>"], 1: ["<answer>41</answer>"]})
    scored = tuple(
        ScoredCompletion(
            completion=answers[index],
            verdicts={"number": Verdict(score=score, status=Status.CORRECT if score else Status.WRONG)},
            reward=score,
        )
        for index, score in ((0, 1.0), (1, 0.0))
    )
    group = Group(prompt=answers[0].prompt, members=scored)
    learned = to_samples(group, scale_rewards="none", mask_truncated=False)[0]
    assert decode(learned.token_ids_L[learned.loss_mask_L]) == f"{CALL}<answer>42</answer>"
    masked = learned.token_ids_L[learned.prompt_length :][~learned.loss_mask_L[learned.prompt_length :]]
    assert decode(masked) == "<output>42</output>"


def test_a_call_beyond_the_last_is_left_unanswered(tool: PythonTool) -> None:
    answers, _ = sample(tool, {0: [CALL, CALL]})
    assert answers[0].text == f"{CALL}<output>42</output>{CALL}"
    answers, _ = sample(tool, {0: [CALL, CALL, "so 42"]}, max_calls=2)
    assert answers[0].text.endswith(f"{CALL}<output>42</output>so 42")


def test_an_output_that_leaves_no_room_ends_the_answer_as_cut_off(tool: PythonTool) -> None:
    answers, _ = sample(tool, {0: [CALL, "never"]}, max_tokens=len(CALL) + 5)
    assert (answers[0].text, answers[0].finish_reason) == (CALL, "length")


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("print('<answer>7</answer>')", "(answer>7(/answer>"),
        ("print(", "runtime_error: SyntaxError"),
        ("import socket; socket.socket().connect(('127.0.0.1', 9))", "<output>"),
        ("print('x' * 10**5)", "x" * 512 + "..."),
        ("while True: pass", "time_limit"),
    ],
)
def test_what_a_program_may_show_the_policy(tool: PythonTool, code: str, shown: str) -> None:
    reply = tool.reply(f"let me see <python>{code}</python>")
    assert reply is not None
    assert shown in reply
    assert reply.count("<") == 2, "nothing that it prints can pass for a tag"


def test_a_turn_without_a_call_has_no_reply_and_calls_are_counted(tool: PythonTool) -> None:
    tool.take_stats()
    assert tool.reply("<answer>4</answer>") is None
    assert tool.reply("4</python>") is None
    tool.reply("<python>1/0</python>")
    tool.reply(CALL)
    stats = tool.take_stats()
    assert (stats.num_calls, stats.num_failed) == (2, 1)
    assert stats.metrics()["tool/failed"] == 0.5
