"""Which tests inject the bug of which public thread; ``docs/reliability.md`` has the same table in words."""

THREADS: dict[str, tuple[str, ...]] = {
    # weights wrong in silence
    "trl#5312": ("test_weights_lost.py::test_weights_from_before_the_engine_slept_stop_the_run",),
    "SkyRL#1680": (
        "test_vllm.py::test_a_load_that_is_finished_after_every_chunk_corrupts_experts_and_stops_the_run",
        "test_weights_lost.py::test_experts_put_back_by_a_load_in_chunks_stop_the_run",
        "test_weights_lost.py::test_an_expert_that_never_arrives_stops_the_run_by_its_name",
    ),
    "verl#7495": (
        "test_weights_lost.py::test_a_payload_that_is_the_model_from_the_start_every_time_stops_the_run",
        "test_weights_lost.py::test_without_a_bug_five_updates_arrive",
    ),
    "verl#7904": ("test_weights_lost.py::test_weights_garbled_from_the_second_update_on_stop_the_run_at_that_update",),
    "trl#3466": ("test_weights_lost.py::test_weights_that_lost_digits_on_the_way_to_be_sent_stop_the_run",),
    # hangs without a message
    "trl#6796": (
        "test_hangs.py::test_a_server_that_never_finishes_a_weight_update_is_given_up_by_name",
        "test_hangs.py::test_a_server_that_refuses_a_weight_update_is_heard_with_its_reason",
    ),
    "trl#7103": ("test_hangs.py::test_a_group_that_never_gets_all_its_answers_ends_the_run_by_its_ordinal",),
    "trl#2923": (
        "test_hangs.py::test_a_process_that_never_comes_to_a_collective_is_missed_in_time",
        "test_hangs.py::test_a_prompt_longer_than_the_engines_window_is_refused_before_anything_waits_for_it",
    ),
    "verl#6673": ("test_verifiers.py::test_a_reward_that_is_stuck_is_told_by_its_name_and_not_as_a_silent_network",),
    # verifiers and rewards
    "verl#5635": (
        "test_verifiers.py::test_an_alarm_in_a_verifier_scores_right_wherever_the_trainer_calls_it",
        "test_verifiers.py::test_an_alarm_off_the_main_thread_is_a_failure_and_no_zero",
    ),
    "verl#5839": (
        "test_verifiers.py::test_a_verifier_that_never_ends_is_ended_and_named",
        "test_verifiers.py::test_mathematics_is_judged_alike_off_the_main_thread_and_endless_work_is_ended",
    ),
    "AReaL#1426": ("test_verifiers.py::test_verifiers_past_their_limit_give_their_places_back",),
    "NeMo-RL#431": (
        "test_verifiers.py::test_a_verifier_that_failed_leaves_its_group_and_shapes_no_baseline",
        "test_verifiers.py::test_a_verifier_that_fails_on_everything_stops_the_run_and_is_named",
    ),
    "trl#6533": ("test_rewards.py::test_one_reward_for_many_answers_is_not_spread_over_them",),
    "trl#5773": (
        "test_rewards.py::test_what_is_no_number_is_no_zero",
        "test_rewards.py::test_no_verdict_holds_what_is_no_number",
    ),
    # engine and learner disagree
    "trl#6789": (
        "test_ratios.py::test_a_ratio_to_answers_drawn_from_a_part_of_the_vocabulary_is_refused",
        "test_ratios.py::test_past_that_refusal_the_ratio_is_the_mass_that_was_kept_and_is_logged",
    ),
    "trl#4772": ("test_ratios.py::test_tiny_differences_multiplied_over_a_long_answer_are_seen_to_drop_it",),
    "verl#5953": ("test_ratios.py::test_an_engine_that_routes_to_other_experts_sets_off_the_alarm",),
    # resuming
    "NeMo-RL#3599": (
        "test_resume.py::test_no_checkpoint_is_taken_while_answers_are_in_flight",
        "test_resume.py::test_a_cursor_that_ran_ahead_of_training_leaves_a_gap_in_the_ledger",
    ),
    "OpenRLHF#1322": (
        "test_resume.py::test_dropped_groups_that_waited_for_their_step_leave_a_gap_in_the_ledger",
        "test_resume.py::test_without_a_bug_the_resumed_run_is_the_whole_run",
    ),
    "verl#3457": ("test_resume.py::test_another_order_of_the_data_after_resuming_is_another_run",),
    # the scale of the loss
    "trl#3021": ("test_scale.py::test_a_mean_in_each_micro_batch_makes_accumulation_another_objective",),
    "trl#7249": ("test_scale.py::test_a_mean_of_means_gives_short_windows_too_much_weight",),
    "open-instruct#1161": ("test_scale.py::test_a_mean_over_the_answers_of_a_minibatch_depends_on_who_shares_it",),
    "prime-rl#2034": ("test_scale.py::test_a_denominator_in_answers_where_tokens_were_meant_is_not_the_reference",),
    "ms-swift#10116": ("test_scale.py::test_a_loss_divided_once_more_by_the_number_of_micro_batches_shrinks_with_it",),
    # masks, groups, settings, memory
    "trl#6357": ("test_masks.py::test_an_end_token_that_is_also_the_pad_token_stays_in_the_loss",),
    "verl#3805": ("test_masks.py::test_a_mask_that_runs_to_the_end_token_takes_in_what_nobody_sampled",),
    "Search-R1#88": ("test_advantages.py::test_a_baseline_of_other_answers_than_the_groups_is_not_the_reference",),
    "verl#1524": (
        "test_settings.py::test_batch_sizes_that_do_not_go_together_are_refused",
        "test_settings.py::test_one_recipe_says_problems_answers_and_updates_in_words",
    ),
    "vllm#13941": (
        "test_memory.py::test_a_gpu_too_small_for_the_engine_to_wake_up_beside_the_learner_is_known_before_the_run",
        "test_vllm.py::test_an_engine_wakes_its_cache_after_the_weights_have_been_loaded",
    ),
}
REPOSITORIES = {
    "trl": "huggingface/trl",
    "SkyRL": "NovaSky-AI/SkyRL",
    "verl": "verl-project/verl",
    "AReaL": "areal-project/AReaL",
    "NeMo-RL": "NVIDIA-NeMo/RL",
    "OpenRLHF": "OpenRLHF/OpenRLHF",
    "open-instruct": "allenai/open-instruct",
    "prime-rl": "PrimeIntellect-ai/prime-rl",
    "ms-swift": "modelscope/ms-swift",
    "Search-R1": "PeterGriffinJin/Search-R1",
    "vllm": "vllm-project/vllm",
}


def address(thread: str) -> str:
    """Where it is to be read; for a pull request, too, this address leads there."""
    project, number = thread.split("#")
    return f"https://github.com/{REPOSITORIES[project]}/issues/{number}"
