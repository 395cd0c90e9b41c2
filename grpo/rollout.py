"""Problems -> scored Groups: sample G answers to each prompt, score each as it arrives."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from grpo.datatypes import Completion, Group, Prompt, ScoredCompletion
from grpo.engine.protocol import Engine, Request, Sampling
from grpo.errors import EngineError
from grpo.seeds import sample_seed


@dataclass(slots=True, kw_only=True)
class Rollout:
    """Consumes ordinals of the problem stream, waits for the engine, and is unblocked by the last answer of a group.

    Attributes:
        prompt_at: the prompt at an ordinal of the problem stream.
        score: judges one completion.
        num_generations: G, answers per prompt.
        seed: the run's seed; each answer's own follows from it, the problem, the attempt and its index.
    """

    engine: Engine
    prompt_at: Callable[[int], Prompt]
    score: Callable[[Completion], ScoredCompletion]
    sampling: Sampling
    num_generations: int
    seed: int
    _seconds_scoring: float = 0.0

    def take_seconds_scoring(self) -> float:
        """Seconds spent on verdicts since the last call."""
        seconds, self._seconds_scoring = self._seconds_scoring, 0.0
        return seconds

    def sample(self, ordinals: Sequence[int]) -> Iterator[Group]:
        """Yield the group of each ordinal, complete and scored, in the order in which they complete.

        Raises:
            EngineError: the engine ended without some answers; their groups would never complete.
        """
        unfinished: dict[int, dict[int, ScoredCompletion]] = {ordinal: {} for ordinal in ordinals}
        requests = [request for ordinal in ordinals for request in self._requests(self.prompt_at(ordinal))]
        for completion in self.engine.sample(requests):
            members = unfinished[completion.prompt.ordinal]
            started = time.perf_counter()
            members[completion.sample_index] = self.score(completion)
            self._seconds_scoring += time.perf_counter() - started
            if len(members) == self.num_generations:
                del unfinished[completion.prompt.ordinal]
                yield Group(prompt=completion.prompt, members=tuple(members[i] for i in range(self.num_generations)))
        if unfinished:
            raise EngineError(
                f"{len(unfinished)} of {len(ordinals)} groups are incomplete: the engine lost answers to the problems "
                f"at ordinals {sorted(unfinished)}"
            )

    def _requests(self, prompt: Prompt) -> list[Request]:
        return [
            Request(
                prompt=prompt,
                sample_index=index,
                seed=sample_seed(self.seed, prompt.problem.problem_id, prompt.attempt, index),
                sampling=self.sampling,
            )
            for index in range(self.num_generations)
        ]
