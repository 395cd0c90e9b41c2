"""How many GPUs learn and how many sample, where a peer lets all of them do both in turn."""

from typing import Any

from grpo.parallel_sizes import ENGINES_OWN_SHARE, GPUS_PER_NODE, most_learners
from grpo.peers.mapping import NoCounterpartError

PART = 4  # engines get a quarter of the first node


def layout(
    num_gpus: int, *, engine_split: int = 1, tensor: int = 1, pipeline: int = 1, context: int = 1
) -> dict[str, Any]:
    """Keys that spread a run over GPUs: engines on some of the first node, the learner on the rest.

    Args:
        engine_split: GPUs of one engine; halved until a quarter of a node holds it.

    >>> layout(8, engine_split=2)["parallel.shard"], layout(1)
    (6, {'num_gpus': 1})

    Raises:
        NoCounterpartError: the learner's sizes leave no GPU for an engine.
    """
    if num_gpus == 1:
        return {"num_gpus": 1}
    room = max(1, min(num_gpus, GPUS_PER_NODE) // PART)
    while engine_split > room:
        engine_split //= 2
    engines, group = room // engine_split, tensor * pipeline * context
    learners = most_learners(num_gpus, engines * engine_split, multiple=group)
    if not learners:
        raise NoCounterpartError(
            f"{num_gpus} GPUs, of which engines get {engines * engine_split}, leave none for a learner of {group}: "
            "here both have GPUs of their own; set num_gpus, parallel and rollout.num_engines"
        )
    data = "replicate" if pipeline > 1 else "shard"
    return {
        "num_gpus": learners + engines * engine_split,
        f"parallel.{data}": learners // group,
        "parallel.tensor": tensor,
        "parallel.pipeline": pipeline,
        "parallel.context": context,
        "rollout.num_engines": engines,
        "rollout.tensor_parallel": engine_split,
        "rollout.gpu_memory_utilization": ENGINES_OWN_SHARE,
    }
