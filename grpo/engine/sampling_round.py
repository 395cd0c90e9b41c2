"""One call of ``EngineFleet.sample``: which replica owes which answers. Names and numbers only, no processes."""

from collections.abc import Callable, Iterable, Sequence

from grpo.datatypes import Completion, Segment
from grpo.engine.protocol import Request
from grpo.engine.replica import Answer, Question

SLOWEST_TOKEN_S = 0.2  # of a full batch


class SamplingRound:
    """Requests go by their place in the call, their key; replicas by their names.

    Attributes:
        ticket: of every order of this round.
        longest_s: seconds that the longest answer may take: an engine is silent until its first answer is whole.
    """

    def __init__(self, ticket: int, requests: Sequence[Request]) -> None:
        self.ticket = ticket
        self.longest_s = SLOWEST_TOKEN_S * max((request.sampling.max_tokens for request in requests), default=0)
        self._requests = tuple(requests)
        self._owed: dict[str, set[int]] = {}
        self._busy_s: dict[str, float] = {}

    @property
    def keys(self) -> range:
        return range(len(self._requests))

    def shares(self, keys: Iterable[int], names: Sequence[str]) -> dict[str, list[int]]:
        """Who shall answer what: each group whole to the replica that has the least to do, largest groups first.

        What there is to do is counted by its bound, prompt and longest answer. A mean of past lengths would follow
        reality closer, and would make the shares depend on it: a resumed run must share out as the first one did.
        """
        groups: dict[int, list[int]] = {}
        for key in keys:
            groups.setdefault(self._requests[key].prompt.ordinal, []).append(key)
        load = {name: self._cost(self._owed.get(name, ())) for name in names}
        shares: dict[str, list[int]] = {name: [] for name in names}
        for group in sorted(groups.values(), key=self._cost, reverse=True):  # stable: equal ones stay in order
            name = min(names, key=load.__getitem__)
            shares[name] += group
            load[name] += self._cost(group)
        return {name: sorted(share) for name, share in shares.items() if share}

    def questions(self, keys: Iterable[int]) -> tuple[Question, ...]:
        return tuple(Question.of(key, self._requests[key]) for key in keys)

    def owe(self, name: str, keys: Iterable[int]) -> None:
        self._owed.setdefault(name, set()).update(keys)
        self._busy_s.setdefault(name, 0.0)

    def owes(self, name: str) -> bool:
        return bool(self._owed.get(name))

    def release(self, name: str) -> list[int]:
        """What a replica that is gone has left unanswered."""
        return sorted(self._owed.pop(name, ()))

    def settle(self, name: str, answer: Answer, decode: Callable[[Sequence[int]], str]) -> Completion:
        """The completion that an answer makes; it is owed no more."""
        self._owed[name].remove(answer.key)
        self._busy_s[name] += answer.busy_s
        request = self._requests[answer.key]
        segment = Segment(
            token_ids=answer.token_ids, behavior_logprobs=answer.behavior_logprobs, version=answer.version
        )
        return Completion(
            prompt=request.prompt,
            sample_index=request.sample_index,
            segments=(segment,),
            finish_reason=answer.finish_reason,
            text=decode(answer.token_ids.tolist()),
        )

    def imbalance(self) -> float:
        """Longest over mean of the seconds that the replicas were busy; 1 is perfect, and of no answers."""
        total = sum(self._busy_s.values())
        return max(self._busy_s.values()) * len(self._busy_s) / total if total else 1.0

    def _cost(self, keys: Iterable[int]) -> int:
        """Tokens, at most."""
        requests = (self._requests[key] for key in keys)
        return sum(len(request.prompt.token_ids) + request.sampling.max_tokens for request in requests)
