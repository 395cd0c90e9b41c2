"""Says when verifiers fail too often for a run to go on: past 5% of the answers, by more than chance explains."""

import math
from collections.abc import Sequence

from grpo.datatypes import Group

MAX_UNSCORED = 0.05  # beyond it a verifier is broken, and the run must not learn around it
_NUM_STEPS, _NUM_ANSWERS = 10, 2_000
_CHANCE = 1e-5


class FailureWatch:
    """Counts answers without a score, over the last ten steps or 2,000 answers, whichever is more.

    Its books are the list that it is given, ``[answers without a score, answers]`` of each step: whoever owns them can
    keep them in a checkpoint, so that a resumed run stops where the uninterrupted one does.

    A verifier that fails on 3% of all answers fails on 5% of one step now and then: with 128 answers once in fifteen
    steps. So a count is too many where a verifier that fails on 5% would reach it once in 100,000 steps; one that fails
    on a fifth of the answers is found in its first or second step of 128.

    >>> watch = FailureWatch()
    >>> watch.is_too_many(8, 128), watch.is_too_many(26, 128)
    (False, True)
    """

    def __init__(self, steps: list[list[int]] | None = None) -> None:
        self._steps: list[list[int]] = [] if steps is None else steps

    def stops_at(self, groups: Sequence[Group]) -> bool:
        """Count the groups of another step; whether there are too many failures to go on.

        A group that failed as a whole failed once: its verdict was a joint one, or the failure lay in its problem.
        """
        num_unscored = num_answers = 0
        for group in groups:
            missing, size = len(group.members) - len(group.scored), len(group.members)
            num_unscored += 1 if missing == size else missing
            num_answers += 1 if missing == size else size
        return self.is_too_many(num_unscored, num_answers)

    def is_too_many(self, num_unscored: int, num_answers: int) -> bool:
        """Count another step; whether it, or the last steps together, has too many failures."""
        self._steps.append([num_unscored, num_answers])
        while len(self._steps) > _NUM_STEPS and self._num_answers() - self._steps[0][1] >= _NUM_ANSWERS:
            del self._steps[0]
        totals = sum(unscored for unscored, _ in self._steps), self._num_answers()
        return any(_exceeds(*counts) for counts in ((num_unscored, num_answers), totals))

    def _num_answers(self) -> int:
        return sum(answers for _, answers in self._steps)


def _exceeds(num_unscored: int, num_answers: int) -> bool:
    return num_unscored > MAX_UNSCORED * num_answers and _tail(num_unscored, num_answers, MAX_UNSCORED) < _CHANCE


def _tail(count: int, total: int, share: float) -> float:
    """Probability that a binomial variable reaches ``count``, where that lies above its mean: terms only shrink."""
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * math.log(share)
        + (total - count) * math.log1p(-share)
    )
    probability, term = 0.0, math.exp(log_term)
    while count <= total and term > 1e-3 * _CHANCE / total:
        probability += term
        term *= (total - count) / (count + 1) * share / (1 - share)
        count += 1
    return probability
