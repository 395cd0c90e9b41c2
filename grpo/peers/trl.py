"""TRL's keys: GRPOConfig with its TrainingArguments, ModelConfig, ScriptArguments, and what open-r1 adds to them."""

from pathlib import Path
from typing import Any

from grpo.errors import UserError
from grpo.peers import trl_conversions as to
from grpo.peers.mapping import Fill, Peer, Row, Settings, Values
from grpo.peers.open_r1_rewards import FILLED, rewards
from grpo.peers.python_script import read_script
from grpo.peers.reading import read_mapping
from grpo.peers.trl_rest import WITHOUT_COUNTERPART

VERSION = "1.16"
PLAIN_MATH = "open-r1/DAPO-Math-17k-Processed"  # its columns are prompt and solution, as TRL's examples have them
STEPS = "TRL counts optimizer updates, this trainer rollouts with all of theirs."
BATCH = (
    "per_device_train_batch_size x gradient_accumulation_steps x processes / num_generations = problems_per_step: "
    "no micro-batch is set here, rows are packed to learner.row_tokens."
)
REWARDS = "each function by its name here; a function of one's own by fn: FILE.py:FUNCTION, unchanged."
MIXED = "TRL computes in bfloat16 on float32 parameters; here they are bfloat16, with a float32 master copy."

MODEL_AND_DATA = (
    Row(key="model_name_or_path", ours="model"),
    Row(key="dtype", ours="learner.dtype", default="float32", convert=to.dtype, sentence=MIXED),
    Row(key="torch_dtype", ours="learner.dtype", convert=to.dtype, sentence=MIXED),
    Row(key="bf16", ours="learner.dtype", convert=to.dtype, sentence=MIXED),
    Row(key="fp16", ours="learner.dtype", default=False, convert=to.dtype),
    Row(key="dataset_name", ours="data.train.path", convert=to.of_one_dataset("dataset_name")),
    Row(key="dataset_config", ours="data.train.subset", convert=to.of_one_dataset("dataset_config")),
    Row(
        key="dataset_train_split",
        ours="data.train.split",
        default="train",
        convert=to.of_one_dataset("dataset_train_split"),
    ),
    Row(key="dataset_test_split", ours="data.held_out", default="test", convert=to.held_out),
    Row(
        key="dataset_prompt_column",
        ours="data.train.question",
        default="prompt",
        convert=to.of_one_dataset("dataset_prompt_column"),
    ),
    Row(key="dataset_mixture", ours="data.train", convert=to.mixture, sentence="a list of sources."),
    Row(key="system_prompt", ours="system_prompt"),
    Row(key="chat_template", ours="template", convert=to.chat_template, sentence="a Jinja file: template: FILE.jinja."),
    Row(key="chat_template_kwargs", ours="chat_template_kwargs", convert=to.chat_template_kwargs),
    Row(key="reward_funcs", ours="rewards", convert=rewards, sentence=REWARDS),
    Row(key="reward_weights", ours="rewards", convert=rewards, sentence="weight: beside each reward."),
    *(
        Row(key=key, ours="rewards", default=default, convert=rewards, sentence="an argument of that reward.")
        for key, default in {
            "cosine_min_value_wrong": 0.0,
            "cosine_max_value_wrong": -0.5,
            "cosine_min_value_correct": 0.5,
            "cosine_max_value_correct": 1.0,
            "cosine_max_len": 1000,
            "repetition_n_grams": 3,
            "repetition_max_penalty": -1.0,
            "max_completion_len": 16384,
            "soft_punish_cache": 4096,
            "code_eval_scoring_mode": "weighted_sum",
        }.items()
    ),
    Row(key="seed", ours="seed", default=42),
    Row(key="output_dir", ours="output_dir"),
)

ROLLOUT = (
    Row(key="num_generations", ours="rollout.num_generations", default=8),
    Row(
        key="per_device_train_batch_size",
        ours="rollout.problems_per_step",
        default=8,
        convert=to.problems_per_step,
        sentence=BATCH,
    ),
    Row(
        key="gradient_accumulation_steps",
        ours="rollout.problems_per_step",
        default=1,
        convert=to.problems_per_step,
        sentence=BATCH,
    ),
    Row(
        key="generation_batch_size",
        ours="rollout.problems_per_step",
        convert=to.problems_per_step,
        sentence="answers / num_generations.",
    ),
    Row(
        key="steps_per_generation",
        ours="algorithm.num_minibatches",
        convert=to.num_minibatches,
        sentence="generation batch / answers of an update.",
    ),
    Row(
        key="max_prompt_length",
        ours="rollout.max_prompt_length",
        sentence="of TRL before 1.0, which cut prompts; here a longer one is refused.",
    ),
    Row(key="max_completion_length", ours="rollout.max_completion_length", default=512),
    Row(key="temperature", ours="rollout.temperature", default=1.0),
    Row(key="top_p", ours="rollout.top_p", default=1.0),
    Row(key="top_k", ours="rollout.top_k", default=0, convert=lambda settings: max(0, settings["top_k"] or 0)),
    Row(key="use_vllm", ours="rollout.engine", default=False, convert=to.engine),
    Row(
        key="vllm_mode",
        ours="rollout.servers",
        default="colocate",
        convert=to.servers,
        sentence="servers of `vllm serve`, with grpo installed beside vLLM.",
    ),
    Row(key="vllm_server_base_url", ours="rollout.servers", convert=to.servers),
    Row(key="vllm_server_host", ours="rollout.servers", default="0.0.0.0", convert=to.servers),
    Row(key="vllm_server_port", ours="rollout.servers", default=8000, convert=to.servers),
    Row(key="vllm_gpu_memory_utilization", ours="rollout.gpu_memory_utilization", default=0.3),
    Row(
        key="vllm_tensor_parallel_size",
        ours="num_gpus",
        default=1,
        convert=to.gpus,
        sentence="an engine has GPUs of its own beside several learner processes.",
    ),
    Row(key="vllm_enable_sleep_mode", ours="rollout.sleep", default=False),
    Row(
        key="vllm_enable_prefix_caching",
        ours="engine.args",
        convert=to.engine_args,
        sentence="of TRL before 0.17; on here.",
    ),
)

ALGORITHM = (
    Row(key="loss_type", ours="algorithm.loss_type", default="dapo", convert=to.loss_type),
    Row(key="loss_type", ours="algorithm.policy_loss", default="dapo", convert=to.policy_loss),
    Row(
        key="importance_sampling_level",
        ours="algorithm.policy_loss",
        default="token",
        convert=to.policy_loss,
        sentence="sequence is gspo.",
    ),
    Row(key="epsilon", ours="algorithm.epsilon", default=0.2, convert=to.epsilon),
    Row(key="epsilon_high", ours="algorithm.epsilon_high", convert=to.epsilon_high),
    Row(key="delta", ours="algorithm.delta"),
    Row(key="sapo_temperature_neg", ours="algorithm.sapo_temperature_neg", default=1.05),
    Row(key="sapo_temperature_pos", ours="algorithm.sapo_temperature_pos", default=1.0),
    Row(key="beta", ours="algorithm.beta", default=0.0),
    Row(key="num_iterations", ours="algorithm.num_iterations", default=1),
    Row(key="scale_rewards", ours="algorithm.scale_rewards", default="group", convert=to.scale_rewards),
    Row(key="multi_objective_aggregation", ours="algorithm.multi_objective_aggregation", default="sum_then_normalize"),
    Row(key="mask_truncated_completions", ours="algorithm.mask_truncated_completions", default=False),
    Row(
        key="ref_model_sync_steps",
        ours="algorithm.ref_model_sync_steps",
        default=512,
        convert=to.steps("ref_model_sync_steps", to.syncs),
        sentence=STEPS,
    ),
    Row(
        key="sync_ref_model",
        ours="algorithm.ref_model_sync_steps",
        default=False,
        convert=to.steps("ref_model_sync_steps", to.syncs),
    ),
    Row(
        key="ref_model_mixup_alpha",
        ours="algorithm.ref_model_mixup_alpha",
        default=0.6,
        convert=to.given_if("ref_model_mixup_alpha", to.syncs),
    ),
    Row(key="top_entropy_quantile", ours="algorithm.top_entropy_quantile", default=1.0),
    Row(key="entropy_coef", ours="algorithm.entropy_coef", default=0.0),
    Row(key="vllm_importance_sampling_correction", ours="algorithm.importance_sampling_correction", default=True),
    Row(
        key="vllm_importance_sampling_mode",
        ours="algorithm.importance_sampling_mode",
        default="sequence_mask",
        convert=to.given_if("vllm_importance_sampling_mode", to.corrects),
    ),
    Row(
        key="vllm_importance_sampling_clip_max",
        ours="algorithm.importance_sampling_cap",
        default=3.0,
        convert=to.sampling_cap,
    ),
    Row(
        key="vllm_importance_sampling_cap",
        ours="algorithm.importance_sampling_cap",
        convert=to.sampling_cap,
        sentence="the older name.",
    ),
    Row(key="vllm_importance_sampling_clip_min", ours="algorithm.importance_sampling_min", convert=to.sampling_min),
    Row(key="off_policy_mask_threshold", ours="algorithm.off_policy_mask_threshold"),
    Row(
        key="use_bias_correction_kl",
        ours="algorithm.kl_importance_correction",
        default=True,
        convert=to.given_if("use_bias_correction_kl", to.has_reference),
    ),
)

LEARNER = (
    Row(key="learning_rate", ours="learner.learning_rate", default=1e-6),
    Row(key="lr_scheduler_type", ours="learner.lr_scheduler_type", default="linear", convert=to.schedule),
    Row(
        key="lr_scheduler_kwargs",
        ours="learner.min_lr_rate",
        convert=to.min_lr_rate,
        sentence="min_lr_rate, or min_lr / learning_rate.",
    ),
    Row(key="warmup_steps", ours="learner.warmup_steps", default=0, convert=to.warmup),
    Row(key="warmup_ratio", ours="learner.warmup_steps", convert=to.warmup, sentence="x max_steps."),
    Row(key="weight_decay", ours="learner.weight_decay", default=0.0),
    Row(key="adam_beta1", ours="learner.adam_beta1", default=0.9),
    Row(key="adam_beta2", ours="learner.adam_beta2", default=0.999),
    Row(key="max_grad_norm", ours="learner.max_grad_norm", default=1.0),
    Row(
        key="optim",
        default="adamw_torch_fused",
        ours="learner",
        convert=to.optimizer,
        sentence="AdamW in all its forms is the one there is.",
    ),
    Row(key="gradient_checkpointing", ours="learner.gradient_checkpointing", default=True),
)

RUN = (
    Row(key="max_steps", ours="max_steps", default=-1, convert=to.max_steps, sentence=STEPS),
    Row(key="eval_strategy", ours="evaluation.every", default="no", convert=to.evaluations),
    Row(
        key="eval_steps",
        ours="evaluation.every",
        convert=to.evaluations,
        sentence=f"logging_steps where it is not given. {STEPS}",
    ),
    Row(key="num_generations_eval", ours="evaluation.num_samples"),
    Row(
        key="save_strategy",
        ours="checkpoint.every",
        default="steps",
        convert=to.saves,
    ),
    Row(
        key="save_steps",
        ours="checkpoint.every",
        default=500,
        convert=to.saves,
        sentence=STEPS,
    ),
    Row(key="save_total_limit", ours="checkpoint.keep", sentence="TRL keeps all unless told."),
    Row(key="metric_for_best_model", ours="checkpoint.metric_for_best_model", convert=to.best_metric),
    Row(key="greater_is_better", ours="checkpoint.greater_is_better", convert=to.greater_is_better),
    Row(key="report_to", ours="log.report_to", default="none", convert=to.report_to),
    Row(key="wandb_project", ours="log.project"),
    Row(
        key="project", ours="log.project", default="huggingface", convert=lambda settings: settings.given.get("project")
    ),
    Row(key="num_completions_to_print", ours="log.transcripts_per_step"),
)


def _longest(_: Settings, values: Values) -> int | None:
    """A packed row that holds the longest sample, where the default does not."""
    longest = int(values.get("rollout.max_prompt_length", 512)) + int(values["rollout.max_completion_length"])
    return longest if longest > 2048 else None


FILLS = (
    Fill(ours="model", value=lambda *_: "Qwen/Qwen2.5-1.5B-Instruct", comment="the configuration names no model"),
    Fill(ours="max_steps", value=lambda *_: 1000, comment="epochs x problems / problems_per_step: TRL counts epochs"),
    Fill(ours="output_dir", value=lambda *_: "runs/from_trl", comment="the run folder"),
    Fill(ours="template", value=lambda *_: "chat", comment="TRL applies the model's own; a base model takes r1_zero"),
    Fill(
        ours="data.train.path",
        value=lambda _, values: None if "data.train" in values else PLAIN_MATH,
        comment="the configuration names no dataset",
    ),
    Fill(
        ours="data.train.subset",
        value=lambda _, values: "en" if values.get("data.train.path") == PLAIN_MATH else None,
        comment="of that dataset",
    ),
    Fill(
        ours="data.train.reference",
        value=lambda _, values: None if "data.train" in values else to.REFERENCE,
        comment="the column with the reference answer",
    ),
    Fill(ours="rewards", value=lambda *_: [FILLED], comment="TRL names reward functions in its script"),
    Fill(ours="learner.row_tokens", value=_longest, comment="a row must hold the longest sample"),
)

EXAMPLE = """\
model_name_or_path: Qwen/Qwen2.5-1.5B-Instruct
dataset_name: open-r1/OpenR1-Math-220k
dataset_prompt_column: problem
reward_funcs: [accuracy, format]
use_vllm: true
per_device_train_batch_size: 16
gradient_accumulation_steps: 4
num_generations: 16
max_completion_length: 1024
max_steps: 500
"""


def read(path: Path) -> dict[str, Any]:
    """The keys of a YAML, JSON or Python file of TRL.

    Raises:
        UserError: it is missing, or none of its keys is one of TRL's.
    """
    given = read_script(path) if path.suffix == ".py" else read_mapping(path, of="TRL")
    known = {row.key for row in ROWS}
    if not known & given.keys():
        raise UserError(f"{path} has none of TRL's keys, such as num_generations. Name a configuration of GRPOConfig")
    return given


ROWS = (*MODEL_AND_DATA, *ROLLOUT, *ALGORITHM, *LEARNER, *RUN, *WITHOUT_COUNTERPART)
TRL = Peer(name="trl", title="TRL", version=VERSION, rows=ROWS, fills=FILLS, read=read, example=EXAMPLE)
