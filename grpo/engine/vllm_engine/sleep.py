"""vLLM's sleep mode: an engine beside the learner gives its GPU memory back while the learner learns.

It sleeps at level 1: the weights wait in the machine's memory, the cache is dropped. Level 2 would drop the weights,
too, and save their way there and back. But what is asked of an engine next may be more answers of the same version (a
refill, another turn, an evaluation), and one that is woken from level 2 without a load computes with whatever its
memory then holds, without an error (vLLM issue 29341). From level 1 it wakes with the weights that it had.
"""

import gc

import torch
from vllm.v1.engine.llm_engine import LLMEngine

WEIGHTS, CACHE = "weights", "kv_cache"  # vLLM's names of what can wake by itself


class SleepMode:
    """Puts one engine to sleep and wakes it, part by part. Each call does what is left to do, which may be nothing.

    Args:
        on: otherwise the engine is always awake.
    """

    def __init__(self, llm: LLMEngine, *, on: bool) -> None:
        self._llm, self._on = llm, on
        self._asleep: frozenset[str] = frozenset()

    def sleep(self) -> None:
        """Give the memory back, unless answers are still being sampled."""
        if self._on and not self._asleep and not self._llm.has_unfinished_requests():
            self._llm.sleep(level=1)
            self._asleep = frozenset({WEIGHTS, CACHE})

    def wake(self, *parts: str) -> None:
        """Take the memory of some parts again; what the learner's allocator holds without use is let go first."""
        tags = [part for part in parts if part in self._asleep]
        if tags:
            gc.collect()
            torch.cuda.empty_cache()  # does nothing where there is no GPU
            self._llm.wake_up(tags)
            self._asleep -= frozenset(tags)
