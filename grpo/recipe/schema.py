"""Every key a recipe may hold, its type and its default."""

import math
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
PassRate = Annotated[float, Field(ge=0, le=1)]
PREFILL_TOKENS = 4096  # of prompts, in one step of an engine
Preset = Literal["r1_zero", "dapo", "dr_grpo", "gspo", "cispo", "rloo", "reinforce_pp", "tinyzero"]
Duration = Annotated[str, Field(pattern=r"^(\d+-)?\d{1,3}:[0-5]\d:[0-5]\d$")]  # HH:MM:SS or D-HH:MM:SS
UNBOUNDED = ("sapo", "reinforce", "dppo")  # policy terms that epsilon and epsilon_high do not bound
Decay = Annotated[float, Field(ge=0, lt=1)]  # at 1 a moving average never moves


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataSource(Section):
    """One dataset by one key: a file, a folder, a hub id, a generator's name, or a function (`docs/data.md`)."""

    path: str  # hub id, folder, .jsonl or .parquet file, or a generator's name
    split: str = "train"  # of a hub dataset
    subset: str | None = None  # a hub dataset's configuration
    question: str = "question"  # column with the problem's text
    reference: str = "answer"  # column with the reference answer
    reference_pattern: str | None = None  # regex whose first group is the reference inside that column
    args: dict[str, int | float | str | bool] = {}  # a generator's or a function's own arguments
    limit: PositiveInt | None = None  # at most this many rows are read
    filter: str | None = None  # expression over a row's columns; rows for which it is false are left out
    weight: PositiveFloat = 1.0  # in a list of sources, this one's part of the problems


class TrainSource(DataSource):
    curriculum: str | None = None  # column with numbers: each epoch goes through the rows in its ascending order


ONE_OR_MANY = ("a source", "a list of sources")  # in pydantic's locations of errors, not in a recipe's keys
_SourceT = TypeVar("_SourceT", bound=DataSource)
OneOrMany = Annotated[
    Annotated[_SourceT, Tag(ONE_OR_MANY[0])] | Annotated[list[_SourceT], Field(min_length=1), Tag(ONE_OR_MANY[1])],
    Discriminator(lambda value: ONE_OR_MANY[isinstance(value, list)]),
]


class Data(Section):
    train: OneOrMany[TrainSource]  # what is learned from: a source, or a list of them
    held_out: OneOrMany[DataSource] | None = None  # as train; absent: problems are set apart from train
    num_held_out: PositiveInt = 128  # problems evaluated on
    on_bad_reference: Literal["exclude", "fail"] = "exclude"  # a row whose reference cannot be judged

    def train_sources(self) -> dict[str, TrainSource]:
        """The sources by the key that messages name.

        >>> list(Data(train=[TrainSource(path="arithmetic"), TrainSource(path="countdown")]).train_sources())
        ['data.train.0', 'data.train.1']
        >>> list(Data(train=TrainSource(path="arithmetic")).train_sources())
        ['data.train']
        """
        return _by_key("data.train", self.train)

    def held_out_sources(self) -> dict[str, DataSource]:
        """As ``train_sources``; none where problems are set apart from train."""
        return {} if self.held_out is None else _by_key("data.held_out", self.held_out)


def _by_key(key: str, found: _SourceT | list[_SourceT]) -> dict[str, _SourceT]:
    if isinstance(found, list):
        return {f"{key}.{place}": source for place, source in enumerate(found)}
    return {key: found}


Args = dict[str, int | float | str | bool]


class Reward(Section):
    """One reward function: by name, or somebody's own by file or module; its part in the sum, and its arguments."""

    name: str | None = None  # one that comes with grpo or with an installed package; beside fn, its label
    fn: str | None = None  # FILE.py:FUNCTION or package.module:FUNCTION
    weight: float = 1.0  # of the score in the sum; 0 only logs
    gate: bool = False  # multiplies the sum of the others instead of adding to it
    args: Args = {}  # the function's own arguments

    @property
    def label(self) -> str:
        """What metrics and transcripts call it."""
        return self.name or (self.fn or "").rpartition(":")[2]


class Audit(Section):
    """A stronger, slower verifier that judges a share of the passes again: the alarm for reward hacking."""

    name: str | None = None  # as in rewards
    fn: str | None = None  # as in rewards
    args: Args = {}  # its own arguments
    share: Share = 0.1  # of the answers that the first reward calls correct


class Scoring(Section):
    """Limits of reward functions that run in processes of their own, and how many of those there are."""

    num_workers: PositiveInt = 2  # processes of each such function
    cpu_s: PositiveFloat = 10.0  # CPU seconds of one call
    deadline_s: PositiveFloat = 60.0  # wall seconds of one call
    memory_mb: PositiveInt = 1024  # beyond what the function's imports take
    concurrency: PositiveInt = 8  # calls at a time to a function that waits on a service
    audit: Audit | None = None


class Rollout(Section):
    engine: Literal["vllm", "transformers"] = "vllm"  # what samples; transformers: the learner's own weights
    num_engines: NonNegativeInt = 0  # replicas in processes of their own, among which groups are shared; 0: in process
    servers: list[str] = []  # addresses of `vllm serve` servers, in place of engines of the run's own
    tensor_parallel: PositiveInt = 1  # GPUs of one engine
    expert_parallel: bool = False  # GPU: each of those has some experts whole, not a slice of each
    sleep: bool = False  # GPU: an engine in process gives its memory back while the learner learns
    engine_dtype: Literal["float32", "bfloat16"] | None = None  # absent: the learner's
    kv_cache_gb: PositiveFloat = 1.0  # CPU: GiB of KV cache
    gpu_memory_utilization: Share = 0.4  # GPU: share of the memory that the engine takes
    max_num_seqs: PositiveInt = 128  # answers that an engine writes at a time
    compile: bool = False  # GPU: CUDA graphs and compilation, for a slower start
    problems_per_step: PositiveInt  # prompts of one step, each with a group of answers
    num_generations: PositiveInt  # answers to a problem, the group
    max_prompt_length: PositiveInt = 512  # tokens
    max_completion_length: PositiveInt  # tokens
    temperature: PositiveFloat = 1.0  # of sampling
    top_p: Share = 1.0  # nucleus sampling; 1 is off
    top_k: NonNegativeInt = 0  # most likely tokens sampled from; 0 is all
    stop: list[str] = []  # texts that end an answer
    tool: Literal["python"] | None = None  # a program between <python> and </python> is run, and its output shown
    max_tool_calls: PositiveInt = 1  # in one answer
    max_staleness: NonNegativeInt = 0  # versions that an answer may be behind the learner; 0: sample, learn, publish
    max_refill_groups: NonNegativeInt = 0  # groups that teach nothing replaced, at most, per step
    min_pass_rate: PassRate = 0.0  # groups with a smaller share of correct answers are not learned from
    max_pass_rate: PassRate = 1.0  # nor those with a greater one

    def step_tokens(self, window: int) -> int:
        """Tokens that an engine computes in one step, at most; ``window``: of the longest prompt with its answer."""
        return max(PREFILL_TOKENS, window, self.max_num_seqs)


class Engine(Section):
    args: dict[str, JsonValue] = {}  # vLLM's own, by the names of its EngineArgs, beside those that other keys set


class Algorithm(Section):
    """The objective: advantages, policy term, corrections, KL, aggregation. `docs/maths.md` has each formula."""

    preset: Preset | None = None  # sets the keys that the recipe does not give; see grpo.recipe.presets
    # advantages
    baseline: Literal["group", "leave_one_out", "batch"] = "group"  # whose mean an answer is compared with
    scale_rewards: Literal["group", "batch", "mean", "none"] = "group"  # what divides an advantage
    pass_at_k: PositiveInt = 1  # above 1: an answer's reward is the best of k answers with it among them
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = (
        "sum_then_normalize"  # how several rewards make one advantage
    )
    # the policy term, and the weight of each token
    policy_loss: Literal["clip", "gspo", "gspo_token", "cispo", "sapo", "gmpo", "reinforce", "dppo"] = (
        "clip"  # the policy term: how far an update may go
    )
    loss_type: Literal["grpo", "dapo", "dr_grpo"] = "dapo"  # mean over answers, over tokens, or over a constant
    epsilon: PositiveFloat = 0.2  # the ratio's lower bound is 1 - epsilon
    epsilon_high: PositiveFloat | None = None  # absent: epsilon
    delta: Annotated[float, Field(gt=1)] | None = (
        None  # clip: the ratio counts up to here where advantages are negative
    )
    sapo_temperature_pos: PositiveFloat = 1.0  # sapo: of tokens with a positive advantage
    sapo_temperature_neg: PositiveFloat = 1.05  # sapo: of the others
    dppo_threshold: Share = 0.15  # of probability
    entropy_coef: NonNegativeFloat = 0.0  # of the entropy bonus
    top_entropy_quantile: Share = 1.0  # of the tokens of an update, the share that the policy term counts
    mask_truncated_completions: bool = False  # answers cut off at max_completion_length are not learned from
    # the reference
    beta: NonNegativeFloat = 0.0  # of the KL to the reference; 0: there is no reference
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"  # Schulman's three
    kl_in: Literal["loss", "reward"] = "loss"  # a term of the loss, or a part of the reward
    kl_importance_correction: bool = False  # the KL term times policy/old
    ref_model_sync_steps: NonNegativeInt = 0  # replace the reference by the policy every so many steps; 0 is never
    ref_model_mixup_alpha: Share = 1.0  # the policy's part in what replaces it
    # policies old and behavior
    old: Literal["recompute", "behavior"] = "recompute"  # the ratio's denominator: the learner's own, or the engine's
    importance_sampling_correction: bool = True  # for the difference between engine and learner
    importance_sampling_mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = (
        "token_truncate"  # ratios above the cap are cut to it, or masked; of a token, or of an answer
    )
    importance_sampling_cap: PositiveFloat = 2.0  # upper bound of old/behavior
    importance_sampling_min: NonNegativeFloat = 0.0  # the masks' lower bound
    off_policy_mask_threshold: PositiveFloat | None = None  # nats
    # updates of a rollout
    num_minibatches: PositiveInt = 1  # parts of a rollout, each with an optimizer update of its own
    num_iterations: PositiveInt = 1  # passes over a rollout

    @property
    def clip_range(self) -> tuple[float, float]:
        """Bounds of the ratio policy/old.

        >>> Algorithm(epsilon=0.25).clip_range
        (0.75, 1.25)
        """
        return 1 - self.epsilon, 1 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)

    @property
    def updates_per_step(self) -> int:
        return self.num_minibatches * self.num_iterations

    @property
    def corrects(self) -> bool:
        """Whether the difference between the engine and the learner is corrected for.

        With ``old: behavior`` the ratio spans it already; REINFORCE has no such ratio.
        """
        return self.importance_sampling_correction and (self.old == "recompute" or self.policy_loss == "reinforce")


class Learner(Section):
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the parameters; bfloat16 keeps a float32 master copy
    learning_rate: PositiveFloat  # of AdamW
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"  # after warm-up; the others fall
    min_lr_rate: PassRate = 0.0  # what linear and cosine fall to after the last update, as a share of learning_rate
    warmup_steps: NonNegativeInt = 0  # updates of linear warm-up
    weight_decay: NonNegativeFloat = 0.0  # of AdamW
    adam_beta1: Decay = 0.9  # of AdamW
    adam_beta2: Decay = 0.999  # of AdamW
    max_grad_norm: PositiveFloat = 1.0  # the gradient is scaled down to it
    row_tokens: PositiveInt = 2048  # packed row: tokens per micro-batch
    gradient_checkpointing: bool = False  # activations computed again in the backward pass
    offload_optimizer: bool = False  # GPU: master copies and moments in the machine's memory


class Parallel(Section):
    """How the learner's processes share the work; their number is the product of the sizes."""

    replicate: PositiveInt = 1  # data parallel, each with all parameters
    shard: PositiveInt = 1  # data parallel, each with a shard of the parameters (FSDP2)
    tensor: PositiveInt = 1  # each with some heads and some columns of every product
    expert: PositiveInt = 1  # 1, or tensor: each of those processes has some experts whole, not a slice of each
    context: PositiveInt = 1  # each with a stretch of every packed row
    pipeline: PositiveInt = 1  # each with some layers
    timeout_s: PositiveFloat = 600.0  # how long one process waits for another within a step

    @property
    def num_processes(self) -> int:
        return self.replicate * self.shard * self.tensor * self.context * self.pipeline


class Evaluation(Section):
    every: NonNegativeInt = 0  # steps; 0 evaluates only at both ends
    num_samples: PositiveInt = 16  # answers per held-out problem
    temperature: NonNegativeFloat = 1.0  # of sampling; 0 is greedy, with one sample
    top_p: Share = 1.0  # nucleus sampling; 1 is off


class Checkpoint(Section):
    every: NonNegativeInt = 0  # steps; 0 saves only at the end
    keep: PositiveInt = 2  # the newest so many stay
    keep_every: NonNegativeInt = 0  # and those whose step this divides; 0 keeps none for that
    metric_for_best_model: str | None = None  # and the best by this metric, such as pass@1 or reward
    greater_is_better: bool = True  # whether the best is the greatest of that metric, or the least


class Log(Section):
    report_to: list[Literal["wandb", "trackio", "tensorboard"]] = []  # beside metrics.jsonl
    project: str = "grpo"  # of wandb and trackio
    wandb_mode: Literal["online", "offline"] = "online"  # offline: `wandb sync` sends it later
    transcripts_per_step: NonNegativeInt = 4  # answers written down with their verdicts


class Recipe(Section):
    """Everything that shapes a run. Keys bear TRL's names where they exist."""

    model: str  # a folder, a hub id, or tiny-base
    seed: NonNegativeInt = 0  # of data, sampling and weights
    max_steps: PositiveInt  # rollouts, each with its updates
    max_time: Duration | None = None  # then the run saves and ends as if interrupted, in time to do so
    output_dir: str  # the run folder
    template: str  # a name (docs/templates.md), chat (the model's own), or the path of a Jinja file
    system_prompt: str | None = None  # a system message, for chat and Jinja
    chat_template_kwargs: Args = {}  # switches of a chat template or a Jinja file, such as enable_thinking
    num_gpus: NonNegativeInt = 0  # 0 is a CPU
    data: Data
    rewards: Annotated[list[Reward], Field(min_length=1)]
    scoring: Scoring = Scoring()
    rollout: Rollout
    engine: Engine = Engine()
    algorithm: Algorithm = Algorithm()
    learner: Learner
    parallel: Parallel = Parallel()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()

    @property
    def max_seconds(self) -> float:
        """``max_time`` in seconds; infinite without one."""
        if self.max_time is None:
            return math.inf
        days, _, clock = self.max_time.rpartition("-")
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)

    @property
    def answers_per_step(self) -> int:
        return self.rollout.problems_per_step * self.rollout.num_generations

    @property
    def engine_dtype(self) -> Literal["float32", "bfloat16"]:
        return self.rollout.engine_dtype or self.learner.dtype
