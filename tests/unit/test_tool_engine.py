"""Answers in turns: what the policy wrote, what the environment answered, and which of it is learned from."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE

from grpo.advantages import to_samples
from grpo.datatypes import Completion, Group, ScoredCompletion, Segment
from grpo.engine.protocol import Request, Sampling
from grpo.engine.tool_engine import Tool, ToolEngine
from grpo.engine.transformers_engine import Answer
from grpo.python_tool import PythonTool, PythonToolError
from grpo.recipe import Reward
from grpo.scoring import Scorer
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


class TokenScript(Script):
    """The same by tokens of a vocabulary in which ``>`` and a line's end are one: as Qwen's, and others'.

    Where a turn ends is decided as the engine on transformers decides it: by the token that completes a stop text.
    """

    def __init__(self, turns: dict[int, list[str]]) -> None:
        super().__init__(turns)
        vocabulary = {chr(number): number for number in range(128)} | {">\n": 128}
        self.tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[(">", "\n")]))
        self.tokenizer.decoder = Fuse()

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text).ids)

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.requests += requests
        for request in requests:
            answer = Answer.start(request, window=1000)
            tokens = iter(self.encode(self._turns[request.sample_index].pop(0)))
            while answer.finish_reason is None and (token := next(tokens, None)) is not None:
                answer.append(token, -0.5, self.tokenizer.decode)
            segment = Segment(
                token_ids=np.array(answer.token_ids),
                behavior_logprobs=np.array(answer.logprobs, np.float32),
                version=self.version,
            )
            yield Completion(
                prompt=request.prompt,
                sample_index=request.sample_index,
                segments=(segment,),
                finish_reason=answer.finish_reason or "stop",
                text=self.tokenizer.decode(answer.token_ids),
            )


@pytest.fixture(scope="module")
def tool() -> Iterator[PythonTool]:
    made = PythonTool(num_workers=2)
    yield made
    made.close()


def sample(tool: Tool, turns: dict[int, list[str]], *, max_tokens: int = 200, max_calls: int = 1):
    script = Script(turns)
    engine = ToolEngine(script, tool, encode=encode, decode=decode, max_calls=max_calls, num_threads=2)
    return asked(engine, turns, max_tokens), script


def asked(engine: ToolEngine, turns: dict[int, list[str]], max_tokens: int) -> dict[int, Completion]:
    prompt = make_prompt(42, token_ids=encode("Q:"))
    requests = [
        Request(prompt=prompt, sample_index=index, seed=100 + index, sampling=Sampling(max_tokens=max_tokens))
        for index in turns
    ]
    return {completion.sample_index: completion for completion in engine.sample(requests)}


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


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_call_may_end_within_a_token(tool: PythonTool, end: str) -> None:
    turns = {0: [f"{CALL}{end}", "<answer>42</answer>"]}
    script = TokenScript(turns)
    engine = ToolEngine(script, tool, encode=script.encode, decode=script.tokenizer.decode, max_calls=1, num_threads=1)
    answer = asked(engine, turns, 200)[0]
    assert answer.text == f"{CALL}{end[:1]}<output>42</output><answer>42</answer>"
    assert answer.policy_text == f"{CALL}{end[:1]}<answer>42</answer>"
    assert answer.text == script.tokenizer.decode(answer.token_ids.tolist())


@pytest.mark.parametrize("extract", ["boxed", "last_number", "answer_tags"])
def test_what_the_tool_prints_is_not_the_policys_answer(tool: PythonTool, extract: str) -> None:
    shown = {"boxed": r"\\boxed{%d}", "last_number": "%d", "answer_tags": "<answer>%d</answer>"}[extract]
    call = f"<python>print('{shown}' % (6 * 7))</python>"
    own = (shown % 42).replace("\\\\", "\\")
    answers, _ = sample(tool, {0: [call, ""], 1: [call, own]})
    assert "42" in answers[0].text
    scorer = Scorer([Reward(name="number", args={"extract": extract})])
    scored = scorer.score_all([answers[0], answers[1]], group_size=2)
    scorer.close()
    assert [member.reward for member in scored] == [0.0, 1.0]


def test_an_answer_whose_tool_failed_is_not_scored_and_ends_nothing_else() -> None:
    closed = PythonTool(num_workers=1)
    closed.close()
    answers, _ = sample(closed, {0: [CALL], 1: ["<answer>42</answer>"], 2: ["<answer>41</answer>"]})
    assert answers[0].text == CALL
    assert answers[0].failure == "PythonToolError: the sandbox is closed"
    with pytest.raises(PythonToolError, match="the sandbox is closed"):
        closed.reply(CALL)
    assert closed.take_metrics()["tool/failed"] == 0, "no failure of the policy's"
    scorer = Scorer([Reward(name="number", args={"extract": "answer_tags"})])
    scored = scorer.score_all([answers[0], answers[1], answers[2]], group_size=3)
    scorer.close()
    assert [member.reward for member in scored] == [None, 1.0, 0.0]
    assert scored[0].verdicts["number"].status is Status.HARNESS_ERROR
    assert "the sandbox is closed" in scored[0].verdicts["number"].reason


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
    learned = to_samples(group, mask_truncated=False)[0]
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
        ("import os; os.kill(os.getpid(), 40)", "<output>"),
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
    assert tool.reply("</python><python>print(1)") is None
    stats = tool.take_stats()
    assert (stats.num_calls, stats.num_failed) == (2, 1)
    assert stats.metrics()["tool/failed"] == 0.5
