"""An engine whose answers may call a tool: policy and environment write in turns.

    policy:  ... <python>print(14 - 8 + 12)</python>
    environment:  <output>18</output>
    policy:  <answer>18</answer>

Each turn is a segment of its own; only what the policy wrote is trained on, and judged.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Completion, FinishReason, Segment
from grpo.engine.protocol import Engine, Request
from grpo.seeds import named_seed
from grpo.weights import Receipt, Tensors


@dataclass(frozen=True, slots=True)
class _Turn:
    """An answer under way: what was asked for, the segments so far, and how many times it has called the tool."""

    request: Request
    segments: tuple[Segment, ...]
    num_calls: int

    @property
    def num_tokens(self) -> int:
        return sum(len(segment.token_ids) for segment in self.segments)


class Tool(Protocol):
    """What the environment does with a turn."""

    end_of_call: str  # the text that ends a turn which calls the tool

    def reply(self, turn: str) -> str | None:
        """What the environment answers to a turn's text; None where it calls no tool. Called from threads.

        An exception ends this answer alone, which is not scored then.
        """
        ...

    def take_metrics(self) -> dict[str, float]:
        """What it did since the last call."""
        ...

    def close(self) -> None: ...


class ToolEngine:
    """Samples turn by turn through another engine. The tool runs in threads, while other answers are sampled."""

    def __init__(
        self,
        engine: Engine,
        tool: Tool,
        *,
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[Sequence[int]], str],
        max_calls: int,
        num_threads: int,
    ) -> None:
        """
        Args:
            encode: text to tokens, for what the environment writes.
            max_calls: calls in one answer; a further one is left unanswered and ends it.
        """
        self.tool = tool
        self._engine = engine
        self._encode = encode
        self._decode = decode
        self._max_calls = max_calls
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="tool")

    @property
    def version(self) -> int:
        return self._engine.version

    @property
    def replicas(self) -> Sequence[Any]:
        """What a publish must be proven on."""
        return getattr(self._engine, "replicas", (self._engine,))

    def take_metrics(self) -> dict[str, float]:
        """What the tool, and the engine beneath, did since the last call."""
        beneath: dict[str, float] = getattr(self._engine, "take_metrics", dict)()
        return beneath | self.tool.take_metrics()

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield each answer as it finishes, all its turns in it; see `grpo.engine.protocol.Engine`."""
        turns = {(r.prompt.ordinal, r.sample_index): _Turn(r, (), 0) for r in requests}
        while turns:
            called: list[tuple[_Turn, Future[str | None]]] = []
            for completion in self._engine.sample([self._request(turn) for turn in turns.values()]):
                turn = turns.pop((completion.prompt.ordinal, completion.sample_index))
                turn = replace(turn, segments=turn.segments + completion.segments)
                if completion.finish_reason == "stop" and turn.num_calls < self._max_calls:
                    called.append((turn, self._threads.submit(self.tool.reply, completion.text)))
                else:
                    yield self._completion(turn, completion.finish_reason)
            assert not turns, "an engine ends with every answer given"
            for turn, future in called:
                following = self._following(turn, future)
                if isinstance(following, Completion):
                    yield following
                else:
                    turns[following.request.prompt.ordinal, following.request.sample_index] = following

    def load(self, tensors: Tensors, version: int) -> Receipt:
        return self._engine.load(tensors, version)

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self._engine.score(token_ids)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self.tool.close()
        self._engine.close()

    def _request(self, turn: _Turn) -> Request:
        """The first turn as it was asked for; a later one goes on from everything written so far."""
        request, sampling = turn.request, turn.request.sampling
        stop = (*sampling.stop, self.tool.end_of_call)
        if not turn.segments:
            return replace(request, sampling=replace(sampling, stop=stop))
        written = tuple(int(token) for segment in turn.segments for token in segment.token_ids)
        return replace(
            request,
            prompt=replace(request.prompt, token_ids=request.prompt.token_ids + written),
            seed=named_seed("turn", request.seed, turn.num_calls),
            sampling=replace(sampling, max_tokens=sampling.max_tokens - turn.num_tokens, stop=stop),
        )

    def _following(self, turn: _Turn, called: "Future[str | None]") -> _Turn | Completion:
        """The turn with the environment's answer, or the finished answer where there is none or no room for more."""
        if (error := called.exception()) is not None:
            return self._completion(turn, "stop", failure=f"{type(error).__name__}: {error}")
        reply = called.result()
        if reply is None:
            return self._completion(turn, "stop")
        token_ids = np.array(self._encode(reply), dtype=np.int64)
        if turn.num_tokens + len(token_ids) >= turn.request.sampling.max_tokens:
            return self._completion(turn, "length")
        environment = Segment(
            token_ids=token_ids,
            behavior_logprobs=np.zeros(len(token_ids), np.float32),
            version=self.version,
            source="environment",
        )
        return replace(turn, segments=(*turn.segments, environment), num_calls=turn.num_calls + 1)

    def _completion(self, turn: _Turn, finish_reason: FinishReason, *, failure: str = "") -> Completion:
        """Its text is decoded by segment, so that the environment's words can be told from the policy's."""
        text, spans = "", []
        for segment in turn.segments:
            start, text = len(text), text + self._decode([int(token) for token in segment.token_ids])
            if segment.source == "environment":
                spans.append((start, len(text)))
        return Completion(
            prompt=turn.request.prompt,
            sample_index=turn.request.sample_index,
            segments=turn.segments,
            finish_reason=finish_reason,
            text=text,
            environment_spans=tuple(spans),
            failure=failure,
        )
