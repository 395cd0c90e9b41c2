"""Problems -> scored Groups: sample G answers to each prompt, and have them judged meanwhile."""

from collections.abc import Callable, Iterable, Sequence
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
        score_all: judges completions as they come, given how many make a group.
        num_generations: G, answers per prompt.
        seed: the run's seed; each answer's own follows from it, the problem, the attempt and its index.
    """

    engine: Engine
    prompt_at: Callable[[int], Prompt]
    score_all: Callable[[Iterable[Completion], int], list[ScoredCompletion]]
    sampling: Sampling
    num_generations: int
    seed: int

    def sample(self, ordinals: Sequence[int]) -> list[Group]:
        """The group of each ordinal, complete and scored, in the order of the ordinals.

        Raises:
            EngineError: the engine ended without some answers; their groups would never complete.
        """
        prompts = [self.prompt_at(ordinal) for ordinal in ordinals]
        requests = [request for prompt in prompts for request in self._requests(prompt)]
        members: dict[int, dict[int, ScoredCompletion]] = {ordinal: {} for ordinal in ordinals}
        for scored in self.score_all(self.engine.sample(requests), self.num_generations):
            members[scored.completion.prompt.ordinal][scored.completion.sample_index] = scored
        if incomplete := sorted(ordinal for ordinal, known in members.items() if len(known) < self.num_generations):
            raise EngineError(
                f"{len(incomplete)} of {len(ordinals)} groups are incomplete: the engine lost answers to the problems "
                f"at ordinals {incomplete}"
            )
        return [
            Group(prompt=prompt, members=tuple(members[prompt.ordinal][i] for i in range(self.num_generations)))
            for prompt in prompts
        ]

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
