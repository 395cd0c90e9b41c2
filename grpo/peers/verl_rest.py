"""verl's keys that set nothing here: those without counterpart, and those that nothing here needs."""

from collections.abc import Mapping
from typing import Any

from grpo.peers.mapping import Row, needless

ACTOR, REF, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "ref", "rollout", "model"))


def lost(sentence: str, defaults: Mapping[str, Any]) -> tuple[Row, ...]:
    return tuple(Row(key=key, default=value, sentence=sentence) for key, value in defaults.items())


WITHOUT_COUNTERPART = (
    *lost("max_steps says how long a run is", {"trainer.total_epochs": 30}),
    *lost(
        "every parameter is trained: LoRA has no key yet",
        {
            f"{MODEL}.lora_rank": 0,
            f"{MODEL}.lora_alpha": 16,
            f"{MODEL}.target_modules": "all-linear",
            f"{MODEL}.exclude_modules": None,
            f"{MODEL}.lora_adapter_path": None,
            f"{MODEL}.lora.*": None,
        },
    ),
    *lost(
        "a learned reward model is called from a reward function of your own: docs/rewards.md", {"reward_model.*": None}
    ),
    *lost("nothing here learns values", {"critic.*": None, "trainer.critic_warmup": 0}),
    *lost(
        "advantages are not discounted: an answer's tokens share one", {"algorithm.gamma": 1.0, "algorithm.lam": 1.0}
    ),
    *lost(
        "the coefficient of the KL is constant: algorithm.beta",
        {"algorithm.kl_ctrl.type": "fixed", "algorithm.kl_ctrl.horizon": 10000, "algorithm.kl_ctrl.target_kl": 0.1},
    ),
    *lost("a cosine is half a period", {f"{ACTOR}.optim.num_cycles": 0.5}),
    *lost("no counterpart to preference feedback", {"algorithm.use_pf_ppo": False, "algorithm.pf_ppo.*": None}),
    *lost(
        "the policy term has no such variant", {f"{ACTOR}.policy_loss.*": None, "algorithm.rollout_correction.*": None}
    ),
    *lost(
        "a group is refilled when its answers score alike, by the whole reward",
        {"algorithm.filter_groups.metric": None},
    ),
    *lost("the sum is divided by max_completion_length", {f"{ACTOR}.loss_scale_factor": None}),
    *lost(
        "parameters stay on the GPU; learner.offload_optimizer moves the rest",
        {f"{ACTOR}.fsdp_config.param_offload": False, f"{ACTOR}.fsdp_config.offload_policy": False},
    ),
    *lost(
        "the learner is sharded by FSDP2, and by the sizes under parallel",
        {
            f"{ACTOR}.strategy": "fsdp",
            f"{ACTOR}.fsdp_config.*": None,
            f"{ACTOR}.megatron.*": None,
            f"{ACTOR}.optim.*": None,
        },
    ),
    *lost(
        "rows are packed to learner.row_tokens: there is no micro-batch",
        {f"{ACTOR}.ppo_micro_batch_size": None, f"{ACTOR}.ppo_micro_batch_size_per_gpu": None},
    ),
    *lost(
        "the model's own settings are used",
        {
            f"{MODEL}.override_config.*": None,
            f"{MODEL}.trust_remote_code": False,
            f"{MODEL}.external_lib": None,
            f"{MODEL}.mtp.*": None,
            f"{MODEL}.*": None,
        },
    ),
    *lost(
        "the engine is vLLM",
        {f"{ROLLOUT}.name": "vllm", f"{ROLLOUT}.engine_kwargs.*": None, f"{ROLLOUT}.quantization": None},
    ),
    *lost(
        "there is one tool, Python: rollout.tool and rollout.max_tool_calls",
        {f"{ROLLOUT}.multi_turn.*": None, f"{ROLLOUT}.agent.*": None, "data.tool_config_path": None},
    ),
    *lost(
        "sampling has temperature, top_p and top_k",
        {f"{ROLLOUT}.ignore_eos": False, f"{ROLLOUT}.do_sample": True, f"{ROLLOUT}.val_kwargs.top_k": -1},
    ),
    *lost("a prompt that is too long is refused, never cut", {"data.truncation": "error"}),
    *lost("the tokenizer is the model's", {"data.tokenizer": None, "data.trust_remote_code": False}),
    *lost(
        "problems have no images or video",
        {
            "data.image_key": "images",
            "data.video_key": "videos",
            f"{ACTOR}.freeze_vision_tower": False,
            "data.image_patch_size": 14,
        },
    ),
    *lost(
        "rows come of a dataset, in an order that follows from the seed",
        {"data.shuffle": True, "data.sampler.*": None, "data.custom_cls.*": None, "data.datagen.*": None},
    ),
    *lost(
        "rewards are scored by the functions under rewards: docs/rewards.md",
        {
            "reward_model.reward_manager": "naive",
            "reward_manager.*": None,
            "reward.*": None,
            "data.reward_fn_key": "data_source",
            "reward_model.sandbox_fusion.*": None,
        },
    ),
    *lost("rollout.max_staleness lets answers be sampled ahead", {"async_training.*": None, "rollout.*": None}),
    *lost(
        "routing is not replayed yet",
        {f"{ACTOR}.router_replay.*": None, f"{ROLLOUT}.enable_rollout_routing_replay": False},
    ),
    *lost("`grpo eval RUN --recipe FILE` evaluates", {"trainer.val_only": False}),
    *lost("experiments are told apart by output_dir", {"trainer.default_hdfs_dir": None}),
    *needless(
        "`grpo train RECIPE --resume` goes on from the newest checkpoint",
        {"trainer.resume_mode": "auto", "trainer.resume_from_path": None},
    ),
    *needless(
        "both ends of a run are evaluated",
        {"trainer.val_before_train": True, "data.val_batch_size": None, "data.validation_shuffle": False},
    ),
    *needless("a number of GPUs is num_gpus, and 0 is a CPU", {"trainer.device": "cuda"}),
    *needless(
        "every checkpoint holds all that a resumed run needs",
        {
            f"{ACTOR}.checkpoint.*": None,
            "trainer.del_local_ckpt_after_load": False,
            "trainer.max_critic_ckpt_to_keep": None,
        },
    ),
    *needless(
        "rows are packed: no padding, no micro-batches, no balancing of either",
        {
            f"{MODEL}.use_remove_padding": True,
            "trainer.balance_batch": True,
            f"{ACTOR}.shuffle": False,
            f"{ACTOR}.data_loader_seed": 42,
            f"{ROLLOUT}.log_prob_micro_batch_size": None,
            f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu": None,
            f"{ROLLOUT}.log_prob_use_dynamic_bsz": False,
            f"{ROLLOUT}.log_prob_max_token_len_per_gpu": 16384,
        },
    ),
    *needless(
        "how it is computed, not what: the loss is the same under any split and any kernel",
        {
            f"{ACTOR}.use_torch_compile": True,
            f"{ACTOR}.entropy_checkpointing": False,
            f"{ACTOR}.entropy_from_logits_with_chunking": False,
            f"{ACTOR}.use_fused_kernels": False,
            f"{ACTOR}.use_prefix_grouper": False,
            f"{ACTOR}.calculate_entropy": False,
            f"{ACTOR}.*": None,
            f"{MODEL}.use_liger": False,
            f"{MODEL}.use_fused_kernels": False,
            f"{MODEL}.fused_kernel_options.*": None,
            f"{MODEL}.use_shm": False,
            f"{MODEL}.enable_activation_offload": False,
            f"{MODEL}.tiled_mlp.*": None,
            "actor_rollout_ref.hybrid_engine": True,
            "actor_rollout_ref.nccl_timeout": 600,
        },
    ),
    *needless("the reference is computed by the learner, in its own layout", {f"{REF}.*": None}),
    *needless(
        "the engine's own affair: memory, batching and how weights arrive",
        {
            f"{ROLLOUT}.mode": "async",
            f"{ROLLOUT}.dtype": "bfloat16",
            f"{ROLLOUT}.load_format": "dummy",
            f"{ROLLOUT}.layered_summon": False,
            f"{ROLLOUT}.enable_chunked_prefill": True,
            f"{ROLLOUT}.max_num_batched_tokens": 8192,
            f"{ROLLOUT}.max_model_len": None,
            f"{ROLLOUT}.free_cache_engine": True,
            f"{ROLLOUT}.calculate_log_probs": False,
            f"{ROLLOUT}.*": None,
        },
    ),
    *needless(
        "prompts that are too long are refused as they come",
        {"data.filter_overlong_prompts": False, "data.filter_overlong_prompts_workers": 1},
    ),
    *needless(
        "the loader and the launcher have no such settings",
        {
            "data.return_raw_chat": True,
            "data.return_raw_input_ids": False,
            "data.return_full_prompt": False,
            "data.return_multi_modal_inputs": True,
            "data.dataloader_num_workers": 8,
            "data.use_shm": False,
            "ray_kwargs.*": None,
            "global_profiler.*": None,
            "transfer_queue.*": None,
            "trainer.use_legacy_worker_impl": "auto",
            "trainer.*": None,
            "reward_model.use_reward_loop": True,
            "reward_model.num_workers": 1,
            "reward_model.launch_reward_fn_async": False,
            "reward_model.enable": False,
            "reward_model.reward_kwargs.overlong_buffer_cfg.log": False,
        },
    ),
)
