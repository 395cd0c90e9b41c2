"""``engine.args``: what of vLLM's own arguments a recipe may set, and what it may not, without vLLM."""

from grpo.errors import RecipeError
from grpo.recipe.schema import Recipe

# vLLM's argument: the recipe key that sets it
OWNED = {
    **dict.fromkeys(("model", "tokenizer", "model_weights"), "model"),
    "dtype": "rollout.engine_dtype",
    "seed": "seed",
    "max_model_len": "rollout.max_prompt_length and rollout.max_completion_length",
    "max_num_seqs": "rollout.max_num_seqs",
    "tensor_parallel_size": "rollout.tensor_parallel",
    "enable_expert_parallel": "rollout.expert_parallel",
    "data_parallel_size": "rollout.num_engines",
    "gpu_memory_utilization": "rollout.gpu_memory_utilization",
    "kv_cache_memory_bytes": "rollout.kv_cache_gb (CPU) or rollout.gpu_memory_utilization",
    "enforce_eager": "rollout.compile",
    "enable_sleep_mode": "rollout.sleep",
}
_OTHER_FUNCTION = "the engine would compute another function than the learner, whose ratios and proofs compare the two"
_OTHER_MODEL = "the learner reads the model as its folder or main branch has it, and the engine must read the same"
_LAYOUT = "published weights reach the workers of rollout.tensor_parallel, and in no other layout"
_STALE = "keys and values of earlier weights would outlive a publish"
_OUR_PROTOCOL = "the run takes weights, workers and requests to the engine by it"
# vLLM's argument: why none may be given
REFUSED = {
    **dict.fromkeys(
        ("quantization", "quantization_config", "kv_cache_dtype", "kv_cache_dtype_skip_layers"), _OTHER_FUNCTION
    ),
    **dict.fromkeys(("hf_overrides", "model_class_overrides", "disable_sliding_window"), _OTHER_FUNCTION),
    **dict.fromkeys(("logits_processors", "watermark_config", "override_generation_config"), _OTHER_FUNCTION),
    **dict.fromkeys(("runner", "convert", "generation_config", "diffusion_config"), _OTHER_FUNCTION),
    **dict.fromkeys(("mamba_cache_dtype", "mamba_ssm_cache_dtype", "kv_sharing_fast_prefill"), _OTHER_FUNCTION),
    **dict.fromkeys(("revision", "code_revision", "tokenizer_revision"), _OTHER_MODEL),
    **dict.fromkeys(("hf_config_path", "config_format"), _OTHER_MODEL),
    "hf_token": "recipe.yaml and trackers would show it to all who see the run; set HF_TOKEN in the environment",
    **dict.fromkeys(
        ("speculative_config", "spec_method", "spec_model", "spec_tokens"),
        "a draft model gets no new weights, and answers would not follow from their seeds alone",
    ),
    "logprobs_mode": "the learner's corrections need the log-probabilities of the distribution that was sampled from",
    "enable_chunked_prefill": "it follows from the device: a CPU's engine cannot take a prompt in two parts",
    **dict.fromkeys(
        ("pipeline_parallel_size", "prefill_context_parallel_size", "decode_context_parallel_size", "nnodes"), _LAYOUT
    ),
    **dict.fromkeys(("node_rank", "enable_eplb", "eplb_config", "enable_elastic_ep", "enable_lora"), _LAYOUT),
    **dict.fromkeys(("kv_transfer_config", "kv_offloading_size", "kv_offloading_backend"), _STALE),
    **dict.fromkeys(("worker_cls", "worker_extension_cls", "distributed_executor_backend"), _OUR_PROTOCOL),
    **dict.fromkeys(
        ("weight_transfer_config", "skip_tokenizer_init", "disable_log_stats", "scheduler_cls"), _OUR_PROTOCOL
    ),
    **dict.fromkeys(("use_tqdm_on_load", "tokens_only", "stream_interval"), _OUR_PROTOCOL),
}


def check_engine_args(recipe: Recipe) -> None:
    """Refuse what no vLLM argument may be, or where there is no vLLM engine of the run's own to take it.

    Whether vLLM has an argument of the name is found when the engine starts.

    Raises:
        RecipeError: the first that is refused.
    """
    args, rollout = recipe.engine.args, recipe.rollout
    if not args:
        return
    if rollout.engine != "vllm":
        raise RecipeError(
            "engine.args",
            args,
            f"are vLLM's, and rollout.engine is {rollout.engine}",
            "Leave them out, or set rollout.engine=vllm.",
        )
    if rollout.servers:
        raise RecipeError(
            "engine.args",
            args,
            "are of engines that the run starts, and those of rollout.servers are started by you",
            "Leave them out, and give `vllm serve` the flags.",
        )
    for name, value in args.items():
        key = f"engine.args.{name}"
        if name in OWNED:
            raise RecipeError(key, value, "has a recipe key of its own", f"Set {OWNED[name]}.")
        reason = _LAYOUT if name.startswith("data_parallel_") else REFUSED.get(name)
        if reason is not None:
            raise RecipeError(key, value, f"may not be set: {reason}", "Leave it out.")
