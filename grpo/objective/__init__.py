"""What GRPO and its kin maximize: one pure function for each formula, by the name that a recipe calls it."""

from grpo.objective.terms import Terms, objective_terms
from grpo.objective.tokens import Answers, Tokens

__all__ = ["Answers", "Terms", "Tokens", "objective_terms"]
