"""The learner: a policy, its optimizer, and one step on a batch."""

from grpo.learner.learner import Learner, StepStats
from grpo.learner.policy import Policy

__all__ = ["Learner", "Policy", "StepStats"]
