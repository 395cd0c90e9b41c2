"""Completion -> ScoredCompletion: every reward function of the recipe, and their weighted sum."""

from collections.abc import Sequence

from grpo.datatypes import Completion, ScoredCompletion
from grpo.errors import RecipeError
from grpo.recipe import Reward
from rewards import make_verifier
from rewards.verdict import Question, Verdict, Verifier


class Scorer:
    """Holds one verifier per reward of the recipe.

    The first reward is the one whose ``correct`` evaluation counts as right.

    Raises:
        RecipeError: a reward's arguments are not among those it takes.
    """

    def __init__(self, rewards: Sequence[Reward]) -> None:
        self._rewards = tuple(rewards)
        self._verifiers: dict[str, Verifier] = {}
        for place, reward in enumerate(rewards):
            try:
                self._verifiers[reward.name] = make_verifier(reward.name, **reward.args)
            except ValueError as error:
                raise RecipeError(f"rewards.{place}.args", reward.args, str(error), "Mend the arguments.") from error

    @property
    def accuracy(self) -> str:
        """Name of the reward that decides what is right."""
        return self._rewards[0].name

    def check_reference(self, reference: str) -> str | None:
        """None where every verifier can judge against it, else the first one's reason."""
        reasons = (verifier.check_reference(reference) for verifier in self._verifiers.values())
        return next((reason for reason in reasons if reason), None)

    def score(self, completion: Completion) -> ScoredCompletion:
        """One verdict per reward function. A single one that failed leaves the answer without a reward."""
        problem = completion.prompt.problem
        question = Question(text=problem.question, reference=problem.reference, columns=problem.columns)
        verdicts = {name: verifier.verify(completion.text, question) for name, verifier in self._verifiers.items()}
        return ScoredCompletion(completion=completion, verdicts=verdicts, reward=self._total(verdicts))

    def close(self) -> None:
        for verifier in self._verifiers.values():
            verifier.close()

    def _total(self, verdicts: dict[str, Verdict]) -> float | None:
        total = 0.0
        for reward in self._rewards:
            score = verdicts[reward.name].score
            if score is None:
                return None
            total += reward.weight * score
        return total
