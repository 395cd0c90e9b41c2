"""The process in which somebody's reward function runs: ``python -m rewards.plugin_child LIMITS TARGET ARGS``."""

import json
import sys
from dataclasses import asdict
from typing import Any

from rewards.reward_function import RewardFunction
from rewards.verdict import Question, Verdict, failed
from rewards.worker import Limits, Message, address_space, serve

_GROWTH = 0.5  # share of its memory limit after which a process that leaks is replaced


def main() -> None:
    limits = Limits(**json.loads(sys.argv[1]))
    try:
        function = RewardFunction(sys.argv[2], json.loads(sys.argv[3]))
    except ValueError as error:
        serve(lambda request: request, ready={"error": str(error)})
        return
    at_start = address_space()

    def handle(request: Message) -> Message:
        questions = [Question(**question) for question in request["questions"]]
        try:
            verdicts = function(request["completions"], questions)
        except MemoryError:
            reason = f"{function.target} ran past its memory limit of {limits.memory_bytes >> 20} MiB"
            return {"verdicts": [asdict(failed(reason))] * len(questions), "retire": True}
        has_grown = address_space() - at_start > _GROWTH * limits.memory_bytes
        return {"verdicts": [_to_json(verdict) for verdict in verdicts], "retire": has_grown}

    ready = {"scope": function.scope, "placement": function.placement, "convention": function.convention.name}
    serve(handle, ready={"ready": True, **ready})


def _to_json(verdict: Verdict) -> dict[str, Any]:
    """Texts are a function's own and may be of any size; a reply may not."""
    extracted = None if verdict.extracted is None else str(verdict.extracted)[:1000]
    return {**asdict(verdict), "extracted": extracted, "reason": str(verdict.reason)[:1000]}


if __name__ == "__main__":
    main()
