"""verl's keys: those of main_ppo's configuration, as its scripts override them, and of the DAPO recipe."""

from pathlib import Path
from typing import Any

from grpo.errors import UserError
from grpo.peers import verl_conversions as to
from grpo.peers.mapping import Fill, Peer, Row
from grpo.peers.reading import flattened, read_mapping, read_text
from grpo.peers.shell import ROOTS, overrides_of
from grpo.peers.verl_conversions import ACTOR, ROLLOUT
from grpo.peers.verl_data import rewards
from grpo.peers.verl_rest import WITHOUT_COUNTERPART

VERSION = "0.8.0.dev, January 2026"
GPUS = "verl's GPUs sample and learn in turn; here engines have some of their own, and the learner the rest."
UPDATES = "verl's schedule counts rollouts, ours optimizer updates."
CLIP = "bounds of the ratio: 1 - epsilon and 1 + epsilon_high."
OPTIM, CORRECTION, CHECK = f"{ACTOR}.optim", "algorithm.rollout_correction", f"{ROLLOUT}.val_kwargs"

MODEL_AND_DATA = (
    Row(key="actor_rollout_ref.model.path", ours="model", default="~/models/deepseek-llm-7b-chat", convert=to.model),
    Row(key="data.train_files", ours="data.train", default="~/data/rlhf/gsm8k/train.parquet", convert=to.train_data),
    Row(key="data.val_files", ours="data.held_out", default="~/data/rlhf/gsm8k/test.parquet", convert=to.held_out_data),
    Row(
        key="data.prompt_key",
        ours="data.train",
        default="prompt",
        convert=to.train_data,
        sentence="data.train.question.",
    ),
    Row(key="data.train_max_samples", ours="data.train.limit", default=-1, convert=to.train_limit),
    Row(key="data.val_max_samples", ours="data.num_held_out", default=-1, convert=to.whole("data.val_max_samples")),
    Row(key="data.seed", ours="seed"),
    Row(key="data.apply_chat_template_kwargs.*", ours="chat_template_kwargs", convert=to.chat_template_kwargs),
    Row(
        key="actor_rollout_ref.model.custom_chat_template",
        ours="template",
        convert=to.chat_template,
        sentence="a Jinja file: template: FILE.jinja.",
    ),
    Row(
        key="custom_reward_function.path",
        ours="rewards",
        convert=rewards,
        sentence="fn: PATH:NAME; verl's functions run unchanged.",
    ),
    Row(key="custom_reward_function.name", ours="rewards", default="compute_score", convert=rewards),
    *(
        Row(
            key=f"{place}.{name}",
            ours="rewards",
            convert=rewards,
            sentence="reward length: max_tokens, soft_tokens, weight.",
        )
        for place in (
            "reward_model.reward_kwargs.overlong_buffer_cfg",
            "reward_model.overlong_buffer",
            "custom_reward_function.overlong_buffer",
        )
        for name in ("enable", "len", "penalty_factor")
    ),
    Row(
        key="reward_model.reward_kwargs.max_resp_len",
        ours="rewards",
        convert=rewards,
        sentence="max_tokens of reward length.",
    ),
)

ROLLOUT_ROWS = (
    Row(key="data.train_batch_size", ours="rollout.problems_per_step", default=1024, convert=to.problems_per_step),
    Row(key=f"{ROLLOUT}.n", ours="rollout.num_generations", default=1, convert=to.num_generations),
    Row(key="data.max_prompt_length", ours="rollout.max_prompt_length", default=512),
    Row(key="data.max_response_length", ours="rollout.max_completion_length", default=512),
    Row(key=f"{ROLLOUT}.temperature", ours="rollout.temperature", default=1.0),
    Row(key=f"{ROLLOUT}.top_p", ours="rollout.top_p", default=1.0),
    Row(
        key=f"{ROLLOUT}.top_k",
        ours="rollout.top_k",
        default=-1,
        convert=to.whole(f"{ROLLOUT}.top_k"),
        sentence="-1 is 0.",
    ),
    Row(key=f"{ROLLOUT}.max_num_seqs", ours="rollout.max_num_seqs", default=256),
    Row(
        key=f"{ROLLOUT}.enforce_eager",
        ours="rollout.compile",
        default=False,
        convert=lambda settings: not settings[f"{ROLLOUT}.enforce_eager"],
        sentence="the opposite.",
    ),
    Row(
        key=f"{ROLLOUT}.engine_kwargs.vllm.*",
        ours="engine.args",
        convert=to.engine_args,
        sentence="vLLM's own arguments, by its names.",
    ),
    Row(key=f"{ROLLOUT}.enable_prefix_caching", ours="engine.args", default=True, convert=to.engine_args),
    Row(key="algorithm.filter_groups.enable", ours="rollout.max_refill_groups", default=False, convert=to.refills),
    Row(
        key="algorithm.filter_groups.max_num_gen_batches",
        ours="rollout.max_refill_groups",
        default=0,
        convert=to.refills,
        sentence="x gen_batch_size - train_batch_size; here exactly the shortfall is sampled again.",
    ),
    Row(key="data.gen_batch_size", ours="rollout.max_refill_groups", convert=to.refills),
    Row(key="trainer.n_gpus_per_node", ours="num_gpus", default=8, convert=to.gpus, sentence=GPUS),
    Row(
        key="trainer.nnodes",
        ours="num_gpus",
        default=1,
        convert=to.gpus,
        sentence="several nodes: `grpo launch slurm`.",
    ),
    Row(key=f"{ROLLOUT}.tensor_model_parallel_size", ours="rollout.tensor_parallel", default=2, convert=to.gpus),
    Row(
        key=f"{ROLLOUT}.gpu_memory_utilization",
        ours="rollout.gpu_memory_utilization",
        default=0.5,
        convert=to.gpus,
        sentence="0.9 for engines with GPUs of their own.",
    ),
    Row(key=f"{ACTOR}.ulysses_sequence_parallel_size", ours="parallel.context", default=1, convert=to.gpus),
    Row(key=f"{ACTOR}.megatron.tensor_model_parallel_size", ours="parallel.tensor", convert=to.gpus),
    Row(key=f"{ACTOR}.megatron.pipeline_model_parallel_size", ours="parallel.pipeline", convert=to.gpus),
)

ALGORITHM = (
    Row(key="algorithm.adv_estimator", ours="algorithm.baseline", default="gae", convert=to.baseline),
    Row(key="algorithm.adv_estimator", ours="algorithm.scale_rewards", default="gae", convert=to.scale),
    Row(key="algorithm.norm_adv_by_std_in_grpo", ours="algorithm.scale_rewards", default=True, convert=to.scale),
    Row(key=f"{ACTOR}.policy_loss.loss_mode", ours="algorithm.policy_loss", default="vanilla", convert=to.policy_loss),
    Row(key=f"{ACTOR}.loss_agg_mode", ours="algorithm.loss_type", default="token-mean", convert=to.loss_type),
    Row(
        key=f"{ACTOR}.clip_ratio",
        ours="algorithm.epsilon",
        default=0.2,
        convert=to.epsilon,
        sentence="verl reads clip_ratio_low and _high, which are 0.2 where not given.",
    ),
    Row(key=f"{ACTOR}.clip_ratio_low", ours="algorithm.epsilon", default=0.2, convert=to.epsilon, sentence=CLIP),
    Row(
        key=f"{ACTOR}.clip_ratio_high",
        ours="algorithm.epsilon_high",
        default=0.2,
        convert=to.epsilon_high,
        sentence=CLIP,
    ),
    Row(
        key=f"{ACTOR}.clip_ratio_high",
        ours="algorithm.dppo_threshold",
        default=0.2,
        convert=to.dppo_threshold,
        sentence="with dppo_tv, whose bounds are of the probability.",
    ),
    Row(
        key=f"{ACTOR}.clip_ratio_c",
        ours="algorithm.delta",
        default=3.0,
        convert=to.delta,
        sentence="verl's dual clip is on unless told.",
    ),
    Row(key=f"{ACTOR}.tau_pos", ours="algorithm.sapo_temperature_pos", default=1.0),
    Row(key=f"{ACTOR}.tau_neg", ours="algorithm.sapo_temperature_neg", default=1.05),
    Row(key=f"{ACTOR}.entropy_coeff", ours="algorithm.entropy_coef", default=0.0),
    Row(key=f"{ACTOR}.use_kl_loss", ours="algorithm.beta", default=False, convert=to.beta),
    Row(key=f"{ACTOR}.kl_loss_coef", ours="algorithm.beta", default=0.001, convert=to.beta),
    Row(key="algorithm.kl_ctrl.kl_coef", ours="algorithm.beta", default=0.001, convert=to.beta),
    Row(key=f"{ACTOR}.kl_loss_type", ours="algorithm.kl_estimator", default="low_var_kl", convert=to.kl_estimator),
    Row(key="algorithm.kl_penalty", ours="algorithm.kl_estimator", default="kl", convert=to.kl_estimator),
    Row(key="algorithm.use_kl_in_reward", ours="algorithm.kl_in", default=False, convert=to.kl_in),
    Row(
        key=f"{ACTOR}.ppo_mini_batch_size",
        ours="algorithm.num_minibatches",
        default=256,
        convert=to.num_minibatches,
        sentence="train_batch_size / ppo_mini_batch_size, both in prompts.",
    ),
    Row(key=f"{ACTOR}.ppo_epochs", ours="algorithm.num_iterations", default=1),
    Row(key=f"{CORRECTION}.rollout_is", ours="algorithm.importance_sampling_correction", convert=to.corrects),
    Row(key=f"{CORRECTION}.rollout_is", ours="algorithm.importance_sampling_mode", convert=to.correction_mode),
    Row(key=f"{CORRECTION}.rollout_rs", ours="algorithm.importance_sampling_mode", convert=to.correction_mode),
    Row(
        key=f"{CORRECTION}.rollout_is_threshold",
        ours="algorithm.importance_sampling_cap",
        default=2.0,
        convert=to.correction_cap,
    ),
    Row(key=f"{CORRECTION}.rollout_rs_threshold", ours="algorithm.importance_sampling_cap", convert=to.correction_cap),
    Row(
        key=f"{CORRECTION}.bypass_mode",
        ours="algorithm.old",
        default=False,
        convert=lambda settings: "behavior" if settings[f"{CORRECTION}.bypass_mode"] else "recompute",
    ),
)

LEARNER = (
    Row(key=f"{OPTIM}.lr", ours="learner.learning_rate", default=1e-6),
    Row(key=f"{OPTIM}.lr_scheduler_type", ours="learner.lr_scheduler_type", default="constant", convert=to.schedule),
    Row(key=f"{OPTIM}.warmup_style", ours="learner.lr_scheduler_type", convert=to.schedule, sentence="the older name."),
    Row(
        key=f"{OPTIM}.min_lr_ratio",
        ours="learner.min_lr_rate",
        default=0.0,
        convert=to.min_lr_rate,
        sentence="verl's warm-up begins there, ours at 0.",
    ),
    Row(
        key=f"{OPTIM}.lr_warmup_steps",
        ours="learner.warmup_steps",
        default=-1,
        convert=to.warmup_steps,
        sentence=UPDATES,
    ),
    Row(
        key=f"{OPTIM}.lr_warmup_steps_ratio",
        ours="learner.warmup_steps",
        default=0.0,
        convert=to.warmup_steps,
        sentence=f"x total_training_steps. {UPDATES}",
    ),
    Row(key=f"{OPTIM}.weight_decay", ours="learner.weight_decay", default=0.01),
    Row(key=f"{OPTIM}.betas", ours="learner.adam_beta1", default=[0.9, 0.999], convert=to.beta1),
    Row(key=f"{OPTIM}.betas", ours="learner.adam_beta2", default=[0.9, 0.999], convert=to.beta2),
    Row(key=f"{ACTOR}.grad_clip", ours="learner.max_grad_norm", default=1.0),
    Row(
        key=f"{ACTOR}.fsdp_config.dtype",
        ours="learner.dtype",
        default="bfloat16",
        convert=lambda _: "bfloat16",
        sentence="verl computes in bfloat16 on float32 parameters; here they are bfloat16, with a float32 master copy.",
    ),
    Row(
        key="actor_rollout_ref.model.enable_gradient_checkpointing", ours="learner.gradient_checkpointing", default=True
    ),
    Row(key=f"{ACTOR}.fsdp_config.optimizer_offload", ours="learner.offload_optimizer", default=False),
    Row(
        key=f"{ACTOR}.use_dynamic_bsz",
        ours="learner.row_tokens",
        default=False,
        convert=to.row_tokens,
        sentence="rows are always packed.",
    ),
    Row(key=f"{ACTOR}.ppo_max_token_len_per_gpu", ours="learner.row_tokens", default=16384, convert=to.row_tokens),
)

RUN = (
    Row(key="trainer.total_training_steps", ours="max_steps"),
    Row(
        key="trainer.experiment_name", ours="output_dir", default="gsm8k", convert=to.output_dir, sentence="runs/NAME."
    ),
    Row(key="trainer.default_local_dir", ours="output_dir", convert=to.output_dir),
    Row(key="trainer.project_name", ours="log.project", default="verl_examples"),
    Row(
        key="trainer.logger",
        ours="log.report_to",
        default=["console", "wandb"],
        convert=to.report_to,
        sentence="metrics.jsonl is always written.",
    ),
    Row(
        key="trainer.test_freq",
        ours="evaluation.every",
        default=-1,
        convert=to.whole("trainer.test_freq"),
        sentence="both ends are always evaluated.",
    ),
    Row(key=f"{CHECK}.n", ours="evaluation.num_samples", default=1, convert=to.num_samples),
    Row(key=f"{CHECK}.temperature", ours="evaluation.temperature", default=0, convert=to.evaluation_temperature),
    Row(key=f"{CHECK}.do_sample", ours="evaluation.temperature", default=False, convert=to.evaluation_temperature),
    Row(key=f"{CHECK}.top_p", ours="evaluation.top_p", default=1.0),
    Row(
        key="trainer.save_freq",
        ours="checkpoint.every",
        default=-1,
        convert=to.whole("trainer.save_freq"),
        sentence="the end is always saved.",
    ),
    Row(
        key="trainer.max_actor_ckpt_to_keep",
        ours="checkpoint.keep",
        convert=to.whole("trainer.max_actor_ckpt_to_keep"),
        sentence="verl keeps all unless told.",
    ),
    Row(
        key="trainer.log_val_generations",
        ours="log.transcripts_per_step",
        default=0,
        convert=to.whole("trainer.log_val_generations"),
    ),
)

FILLS = (
    Fill(ours="max_steps", value=lambda *_: 1000, comment="epochs x problems / train_batch_size: verl counts epochs"),
    Fill(
        ours="rollout.problems_per_step",
        value=lambda settings, _: settings[f"{ACTOR}.ppo_mini_batch_size"],
        comment="of one update",
    ),
    Fill(ours="rollout.num_generations", value=lambda *_: 8, comment="GRPO needs a group of answers"),
    Fill(ours="template", value=lambda *_: "chat", comment="verl applies the model's own; a base model takes r1_zero"),
    Fill(
        ours="data.train.path",
        value=lambda _, values: None if "data.train" in values else "openai/gsm8k",
        comment="in the place of problems with images",
    ),
    Fill(
        ours="data.train.subset",
        value=lambda _, values: "main" if values.get("data.train.path") == "openai/gsm8k" else None,
        comment="of openai/gsm8k",
    ),
    Fill(
        ours="data.train.reference_pattern",
        value=lambda _, values: "#### (.*)" if values.get("data.train.path") == "openai/gsm8k" else None,
        comment="the solution ends in its number",
    ),
    Fill(ours="num_gpus", value=lambda *_: 1, comment="see docs/scaling.md"),
)

EXAMPLE = """\
python3 -m verl.trainer.main_ppo \\
    actor_rollout_ref.model.path=Qwen/Qwen3-8B \\
    data.train_files=$HOME/data/gsm8k/train.parquet data.train_batch_size=1024 \\
    data.max_prompt_length=512 data.max_response_length=1024 \\
    actor_rollout_ref.rollout.n=5 algorithm.adv_estimator=grpo \\
    actor_rollout_ref.actor.optim.lr=1e-6 \\
    actor_rollout_ref.actor.ppo_mini_batch_size=256 \\
    actor_rollout_ref.actor.use_kl_loss=True \\
    actor_rollout_ref.actor.kl_loss_coef=0.001 \\
    trainer.total_training_steps=100 trainer.n_gpus_per_node=8
"""


def read(path: Path) -> dict[str, Any]:
    """The keys of a YAML file of verl, or of a script that starts it; references between keys are left out.

    Raises:
        UserError: it is missing, or none of its keys is one of verl's.
    """
    if path.suffix in (".yaml", ".yml", ".json"):
        tree = flattened(read_mapping(path, of="verl"))
        given = {key: value for key, value in tree.items() if "${" not in str(value) and value != "???"}
    else:
        given = overrides_of(read_text(path), str(path))
    if not any(key.partition(".")[0] in ROOTS for key in given):
        raise UserError(f"{path} has none of verl's keys, such as data.train_batch_size. Name a configuration of verl")
    return given


ROWS = (*MODEL_AND_DATA, *ROLLOUT_ROWS, *ALGORITHM, *LEARNER, *RUN, *WITHOUT_COUNTERPART)
VERL = Peer(name="verl", title="verl", version=VERSION, rows=ROWS, fills=FILLS, read=read, example=EXAMPLE)
