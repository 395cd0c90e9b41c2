"""Rule-based verifiers: text in, verdict out. Usable without the trainer; imports neither it nor torch.

>>> from rewards import Question, make_verifier
>>> verifier = make_verifier("number", extract="answer_tags")
>>> verifier.verify("<think>2+2</think><answer>4</answer>", Question(text="2 + 2?", reference="4")).status.value
'correct'
"""

from rewards.code_tests import CodeTestsVerifier
from rewards.countdown import CountdownVerifier
from rewards.format import FormatVerifier, TagCountVerifier
from rewards.instructions import InstructionsVerifier
from rewards.json_schema import JsonSchemaVerifier
from rewards.judged_length import CosineLengthVerifier, GroupLengthVerifier
from rewards.language import LanguageVerifier
from rewards.length import LengthVerifier
from rewards.math_answer import MathAnswerVerifier
from rewards.number import NumberVerifier
from rewards.plugin import PluginVerifier, installed_rewards
from rewards.random_control import RandomVerifier
from rewards.reasoning_gym_task import ReasoningGymVerifier
from rewards.registry import VERIFIERS, make_verifier
from rewards.repetition import RepetitionVerifier
from rewards.reward_function import reward
from rewards.verdict import JointVerifier, Question, Status, Verdict, Verifier

__all__ = [
    "VERIFIERS",
    "CodeTestsVerifier",
    "CosineLengthVerifier",
    "CountdownVerifier",
    "FormatVerifier",
    "GroupLengthVerifier",
    "InstructionsVerifier",
    "JointVerifier",
    "JsonSchemaVerifier",
    "LanguageVerifier",
    "LengthVerifier",
    "MathAnswerVerifier",
    "NumberVerifier",
    "PluginVerifier",
    "Question",
    "RandomVerifier",
    "ReasoningGymVerifier",
    "RepetitionVerifier",
    "Status",
    "TagCountVerifier",
    "Verdict",
    "Verifier",
    "installed_rewards",
    "make_verifier",
    "reward",
]
