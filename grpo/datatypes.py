"""The types that flow through the trainer, one per stage; each stage makes a new one.

    Problem -> Prompt -> Completion -> ScoredCompletion -> Group -> Sample -> ReadyGroup -> Batch

Shape legend (see CONTRIBUTING.md): P problems, G group size, L tokens of one sample, R rows, T packed tokens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from rewards.verdict import Status, Verdict

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Source = Literal["policy", "environment"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question with its reference answer.

    >>> Problem(problem_id="gsm8k/12", question="2 + 2?", reference="4").source
    ''
    """

    problem_id: str
    question: str
    reference: str
    source: str = ""  # the dataset it came from; names evaluation metrics
    columns: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A problem as the engine sees it. Text became tokens here, once.

    ``ordinal`` is its place in the problem stream and ``attempt`` how often the stream has come to this problem
    before (its epoch).
    """

    problem: Problem
    token_ids: tuple[int, ...]
    ordinal: int
    attempt: int = 0

    @property
    def group_id(self) -> str:
        return f"{self.problem.problem_id}#{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of tokens from one writer at one version of the weights.

    >>> import numpy as np
    >>> segment = Segment(token_ids=np.array([5, 9]), behavior_logprobs=np.array([-0.1, -2.0]), version=3)
    >>> segment.source
    'policy'
    """

    token_ids: IntArray  # (L,)
    behavior_logprobs: FloatArray  # (L,) nats, of the engine while sampling; zeros where source is "environment"
    version: int
    source: Source = "policy"

    def __post_init__(self) -> None:
        assert self.token_ids.shape == self.behavior_logprobs.shape, "one log-probability per token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled answer: segments in order. The loss mask follows from their sources, never from token ids."""

    prompt: Prompt
    sample_index: int
    segments: tuple[Segment, ...]
    finish_reason: FinishReason
    text: str
    environment_spans: tuple[tuple[int, int], ...] = ()  # start and end in `text` of what the environment wrote
    failure: str = ""  # why the environment could not answer, which is no fault of the policy's: not to be scored

    @property
    def token_ids(self) -> IntArray:
        return np.concatenate([segment.token_ids for segment in self.segments])

    @property
    def behavior_logprobs(self) -> FloatArray:
        return np.concatenate([segment.behavior_logprobs for segment in self.segments])

    @property
    def loss_mask(self) -> BoolArray:
        return np.concatenate([np.full(len(s.token_ids), s.source == "policy") for s in self.segments])

    @property
    def num_tokens(self) -> int:
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def policy_text(self) -> str:
        """What is judged: the policy's own words. A tool that prints the answer has not given it."""
        starts = (0, *(end for _, end in self.environment_spans))
        ends = (*(start for start, _ in self.environment_spans), len(self.text))
        return "".join(self.text[start:end] for start, end in zip(starts, ends, strict=True))

    @property
    def uses_tool(self) -> bool:
        """Whether the environment answered: the policy called a tool and got its output."""
        return any(segment.source == "environment" for segment in self.segments)

    @property
    def version(self) -> int:
        """The oldest version that wrote any of it."""
        return min(segment.version for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCompletion:
    """A completion with one verdict per reward function. ``reward`` is their weighted sum, None if unscored."""

    completion: Completion
    verdicts: Mapping[str, Verdict]
    reward: float | None
    audit: Verdict | None = None  # a stronger verifier's, of the few passes that are judged again


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All G answers to one prompt, scored; the unit of admission, of order and of the ledger."""

    prompt: Prompt
    members: tuple[ScoredCompletion, ...]

    @property
    def group_id(self) -> str:
        return self.prompt.group_id

    @property
    def scored(self) -> tuple[ScoredCompletion, ...]:
        """The members that take part in group statistics."""
        return tuple(member for member in self.members if member.reward is not None)

    @property
    def rewards_G(self) -> npt.NDArray[np.float64]:
        return np.array([member.reward for member in self.scored], dtype=np.float64)

    @property
    def pass_rate(self) -> float:
        """The share of the scored answers that the first reward function with a say on the problem calls correct."""
        names = self.members[0].verdicts
        judging = next(n for n in names if any(m.verdicts[n].status.has_score for m in self.scored))
        return sum(m.verdicts[judging].status is Status.CORRECT for m in self.scored) / len(self.scored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer ready to learn from: prompt and completion tokens with what the loss needs of each.

    >>> import numpy as np
    >>> sample = Sample(group_id="p#0", sample_index=0, prompt_length=1, token_ids_L=np.array([7, 8, 9]),
    ...     loss_mask_L=np.array([False, True, True]), behavior_logprobs_L=np.zeros(3, np.float32),
    ...     old_logprobs_L=None, version=0, truncated=False)
    >>> int(sample.loss_mask_L.sum())
    2
    """

    group_id: str
    sample_index: int
    prompt_length: int
    token_ids_L: IntArray
    loss_mask_L: BoolArray  # True where the policy wrote the token and the loss counts it
    behavior_logprobs_L: FloatArray  # zeros on the prompt
    old_logprobs_L: FloatArray | None  # the learner's at the version that sampled; None where that is the learner now
    version: int
    truncated: bool
    advantage: float = math.nan  # not known before the other groups of the step are


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyGroup:
    """The samples of one group with their rewards, waiting for the step that learns from them."""

    group_id: str
    ordinal: int
    samples: tuple[Sample, ...]
    rewards_G: npt.NDArray[np.float64]
    scores_G: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)  # by reward function


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples packed end to end into rows, with nothing in between; one row is one micro-batch."""

    rows: tuple["Row", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One packed row of T tokens; each array holds one entry per token."""

    members: tuple[int, ...]  # which samples of the batch, in the order they lie in the row
    boundaries: tuple[int, ...]  # their offsets, ending in T
    token_ids_T: IntArray
    position_ids_T: IntArray  # restart at each sample
    loss_mask_T: BoolArray
    weights_T: npt.NDArray[np.float64]  # the whole aggregation: loss = sum of weight x term
    advantages_T: npt.NDArray[np.float64]
    behavior_logprobs_T: FloatArray
    old_logprobs_T: FloatArray | None
