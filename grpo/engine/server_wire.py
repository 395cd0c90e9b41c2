"""What goes to a ``vllm serve`` server's route of tokens in and tokens out, and what comes back. Pure.

The route (``--enable-scale-out``) takes vLLM's own sampling parameters and gives token ids with log-probabilities as
JSON numbers, which hold every fp32 value exactly; and, for each stretch of tokens, the label of the weights that
sampled it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from grpo.engine.replica import Answer, Question
from grpo.errors import EngineError

GENERATE = "/inference/v1/generate"
NO_LOGPROB = -9999.0  # vLLM's stand-in for one that is missing or not a number


def sample_body(question: Question, request_id: str) -> dict[str, Any]:
    """The request for one answer."""
    sampling = question.sampling
    return {
        "request_id": request_id,
        "token_ids": list(question.token_ids),
        "sampling_params": {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": question.seed,
            "ignore_eos": True,  # what ends an answer is said in full by the request
            "stop_token_ids": list(sampling.stop_token_ids),
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,  # a stop text may be a special token's
            "detokenize": bool(sampling.stop),
            "logprobs": 0,  # the sampled token's alone
        },
    }


def score_body(token_ids: Sequence[int], request_id: str) -> dict[str, Any]:
    """The request for the log-probabilities, at temperature 1, of a text's own tokens; it reads no prefix cache."""
    return {
        "request_id": request_id,
        "token_ids": list(token_ids),
        "sampling_params": {
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
            "detokenize": False,
            "ignore_eos": True,
        },
    }


def read_answer(response: Mapping[str, Any], question: Question, *, label: str, version: int, busy_s: float) -> Answer:
    """The answer in a response.

    Args:
        label: of the weights that the server should hold.
        version: what those are to the trainer.

    Raises:
        EngineError: other weights sampled it, a log-probability is missing, or it ended in another way than asked.
    """
    (choice,) = response["choices"]
    who = f"{question.problem_id}#{question.attempt}"
    labels = [span["version"] for span in choice["weight_versions"] or ()]
    if labels != [label]:
        raise EngineError(
            f"an answer to {who} was sampled by weights {labels}, and {label!r} were published: is another run "
            "publishing to this server?"
        )
    if choice["finish_reason"] not in ("stop", "length"):
        raise EngineError(f"the server ended an answer to {who} with '{choice['finish_reason']}'")
    tokens = choice["logprobs"]["content"]
    logprobs = np.array([token["logprob"] for token in tokens], dtype=np.float32)
    if len(logprobs) != len(choice["token_ids"]) or (logprobs <= NO_LOGPROB).any():
        raise EngineError(f"the server gave no log-probability for some token of an answer to {who}")
    return Answer(
        key=question.key,
        token_ids=np.array(choice["token_ids"], dtype=np.int64),
        behavior_logprobs=logprobs,
        version=version,
        finish_reason=choice["finish_reason"],
        busy_s=busy_s,
    )


def read_score(response: Mapping[str, Any], token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """Log-probabilities of tokens 1..L-1; shape (L-1,). Position 0 has nothing before it."""
    positions = response["prompt_logprobs"][1:]
    chosen = [position[str(token)]["logprob"] for position, token in zip(positions, token_ids[1:], strict=True)]
    return np.array(chosen, dtype=np.float32)
