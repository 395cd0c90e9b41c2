"""What the trainer asks of an engine. Both engines answer to it; tests run the same contract on each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from grpo.datatypes import Completion, Prompt
from grpo.errors import EngineError
from grpo.weights import Receipt, Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are drawn. ``behavior_logprobs`` are of the distribution after temperature, top-p and top-k.

    >>> Sampling(max_tokens=64).temperature
    1.0
    """

    max_tokens: int
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 is off
    stop_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()  # texts that end an answer; kept in the answer's tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer to sample."""

    prompt: Prompt
    sample_index: int
    seed: int
    sampling: Sampling


def check_fits(request: Request, window: int) -> None:
    """Raises EngineError where the prompt leaves no room for an answer within ``window`` tokens."""
    length = len(request.prompt.token_ids)
    if not 0 < length < window:
        raise EngineError(
            f"the prompt of {request.prompt.group_id} has {length} tokens; the engine's window of "
            f"{window} tokens holds prompts of 1 to {window - 1}"
        )


class Engine(Protocol):
    """Samples answers from the policy at one version of its weights.

    ``version`` is the version of the weights it holds (0 is the model as loaded).
    """

    @property
    def version(self) -> int: ...

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield each answer as it finishes. Order of arrival is not promised; content follows from the seeds.

        Raises:
            EngineError: a request cannot be served (a prompt longer than the window, say).
        """
        ...

    def load(self, tensors: Tensors, version: int) -> Receipt:
        """Replace the weights; afterwards ``version`` is the new one and no cached state of the old remains."""
        ...

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Log-probabilities, at temperature 1, of tokens 1..L-1 each given those before it; shape (L-1,)."""
        ...

    def close(self) -> None: ...
