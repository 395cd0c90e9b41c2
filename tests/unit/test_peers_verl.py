"""What verl's keys come to."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from grpo.data import load_data
from grpo.peers import VERL
from tests.unit.public_configs import imported, kinds, of_text


def test_verls_dapo_keeps_its_meaning() -> None:
    _, recipe = imported("verl_dapo_32b")
    rollout, algorithm = recipe.rollout, recipe.algorithm
    assert (recipe.model, rollout.problems_per_step, rollout.num_generations) == ("Qwen/Qwen2.5-32B", 512, 16)
    assert (algorithm.clip_range, algorithm.delta, algorithm.beta) == ((0.8, 1.28), 3.0, 0.0)
    assert (algorithm.num_minibatches, rollout.max_refill_groups) == (16, 10 * 1536 - 512)
    penalty = recipe.rewards[1]
    assert (penalty.name, penalty.args) == ("length", {"max_tokens": 20480, "soft_tokens": 4096})
    assert penalty.weight == 0.5  # verl's answers are 2 apart there, ours 1
    assert (recipe.learner.weight_decay, recipe.learner.row_tokens, recipe.parallel.context) == (0.1, 8 * 22528, 8)


def test_verls_gsm8k_is_the_dataset_that_it_was_made_of() -> None:
    done, recipe = imported("verl_qwen2_7b")
    assert recipe.data.held_out is not None
    assert (recipe.data.train.path, recipe.data.held_out.split) == ("openai/gsm8k", "test")
    assert recipe.rewards[0].args == {"extract": "hashes"}
    assert (recipe.algorithm.beta, recipe.algorithm.kl_estimator, recipe.algorithm.num_minibatches) == (0.001, "k3", 4)
    assert kinds(done, "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu") == {"lost"}


def test_several_files_of_verl_are_a_list_of_sources() -> None:
    done, recipe = imported("verl_qwen2_7b_math")
    assert [source.path for source in recipe.data.train_sources().values()] == [
        "openai/gsm8k",
        "DigitalLearningGmbH/MATH-lighteval",
    ]
    assert [source.split for source in recipe.data.held_out_sources().values()] == ["test", "test"]
    assert "# the dataset that ~/data/math/train.parquet is made of" in done.text
    assert recipe.rewards[0].name == "math_answer"  # GSM8K's own judge reads whole numbers alone


def test_a_parquet_of_verl_that_is_here_is_read_itself(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.parquet"
    row = {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "What is 70 + 2? Think step by step."}],
        "reward_model": {"style": "rule", "ground_truth": "72"},
    }
    other = {**row, "prompt": [{"role": "user", "content": "What is 1 + 1?"}]}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row, other]), path)
    text = f"x actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo data.train_files={path}\n"
    done, recipe = of_text(VERL, text, tmp_path, ".sh")
    assert done.refusal == ""
    assert recipe.data.train_sources()["data.train"].reference == "reward_model.ground_truth"
    data = recipe.data.model_copy(update={"held_out": None, "num_held_out": 1})
    loaded = load_data(data, seed=0, check_reference=lambda *_: None)
    (problem,) = loaded.held_out
    assert problem.reference == "72"
    assert problem.question in ("What is 70 + 2? Think step by step.", "What is 1 + 1?")


def test_verls_schedule_switches_and_vllm_arguments(tmp_path: Path) -> None:
    text = """x actor_rollout_ref.rollout.n=4 algorithm.adv_estimator=grpo \\
        actor_rollout_ref.actor.optim.warmup_style=cosine actor_rollout_ref.actor.optim.min_lr_ratio=0.1 \\
        +data.apply_chat_template_kwargs.enable_thinking=False trainer.max_actor_ckpt_to_keep=5 \\
        +actor_rollout_ref.rollout.engine_kwargs.vllm.max_num_partial_prefills=2 \\
        +actor_rollout_ref.rollout.engine_kwargs.vllm.quantization=fp8 \\
        actor_rollout_ref.rollout.enable_prefix_caching=False trainer.logger='["console","tensorboard"]'
"""
    done, recipe = of_text(VERL, text, tmp_path, ".sh")
    assert (recipe.learner.lr_scheduler_type, recipe.learner.min_lr_rate) == ("cosine", 0.1)
    assert recipe.chat_template_kwargs == {"enable_thinking": False}
    assert recipe.engine.args == {"max_num_partial_prefills": 2, "enable_prefix_caching": False}
    assert kinds(done, "actor_rollout_ref.rollout.engine_kwargs.vllm.quantization") == {"lost"}
    assert kinds(done, "actor_rollout_ref.rollout.engine_kwargs.vllm.max_num_partial_prefills") == {"translated"}
    assert (recipe.checkpoint.keep, recipe.log.report_to) == (5, ["tensorboard"])


def test_verls_warm_up_counts_rollouts_and_ours_their_updates(tmp_path: Path) -> None:
    text = """x algorithm.adv_estimator=grpo actor_rollout_ref.rollout.n=4 data.train_batch_size=64 \\
        actor_rollout_ref.actor.ppo_mini_batch_size=16 actor_rollout_ref.actor.ppo_epochs=2 \\
        actor_rollout_ref.actor.optim.lr_warmup_steps=10
"""
    _, recipe = of_text(VERL, text, tmp_path, ".sh")
    assert (recipe.algorithm.updates_per_step, recipe.learner.warmup_steps) == (8, 80)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("algorithm.adv_estimator=rloo", ("leave_one_out", "none", "clip", "dapo")),
        ("algorithm.adv_estimator=reinforce_plus_plus", ("batch", "batch", "clip", "dapo")),
        ("algorithm.adv_estimator=gae", ("group", "group", "clip", "dapo")),
        ("actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean", ("group", "group", "gmpo", "grpo")),
        ("actor_rollout_ref.actor.policy_loss.loss_mode=gspo", ("group", "group", "gspo", "grpo")),
        ("actor_rollout_ref.actor.policy_loss.loss_mode=sapo", ("group", "group", "sapo", "grpo")),
        ("actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean", ("group", "group", "clip", "grpo")),
        ("algorithm.norm_adv_by_std_in_grpo=False", ("group", "none", "clip", "dapo")),
    ],
)
def test_verls_algorithms(override: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    estimator = "" if "adv_estimator" in override else "algorithm.adv_estimator=grpo "
    text = f"python3 -m verl.trainer.main_ppo actor_rollout_ref.rollout.n=4 {estimator}{override}\n"
    done, recipe = of_text(VERL, text, tmp_path, ".sh")
    algorithm = recipe.algorithm
    assert (algorithm.baseline, algorithm.scale_rewards, algorithm.policy_loss, algorithm.loss_type) == expected
    if "gae" in override:
        assert kinds(done, "algorithm.adv_estimator") == {"lost"}


@pytest.mark.parametrize(
    ("mode", "low", "high", "ours", "expected"),
    [
        ("cispo", 1.0, 5.0, "algorithm.epsilon_high", 5.0),
        ("cispo", 1.0, 5.0, "algorithm.epsilon", 1.0),
        ("dppo_tv", 0.1, 0.1, "algorithm.dppo_threshold", 0.1),
        ("dppo_tv", 0.1, 0.3, "algorithm.dppo_threshold", None),
    ],
)
def test_verls_bounds_of_other_losses(
    mode: str, low: float, high: float, ours: str, expected: float | None, tmp_path: Path
) -> None:
    actor = "actor_rollout_ref.actor"
    text = f"python3 -m verl.trainer.main_ppo actor_rollout_ref.rollout.n=4 {actor}.policy_loss.loss_mode={mode} "
    done, _ = of_text(VERL, f"{text} {actor}.clip_ratio_low={low} {actor}.clip_ratio_high={high}\n", tmp_path, ".sh")
    assert done.values.get(ours) == expected


def test_what_a_recipe_refuses_is_left_out_and_said(tmp_path: Path) -> None:
    text = "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.rollout.top_p=0.9\n"
    done, recipe = of_text(VERL, text, tmp_path, ".sh")
    assert recipe.rollout.top_p == 1.0
    reason = next(entry.sentence for entry in done.entries if entry.ours == "rollout.top_p")
    assert reason.startswith("refused here, so left out: does not go with")


def test_verls_yaml_is_read_with_its_references_left_out(tmp_path: Path) -> None:
    text = "data: {train_batch_size: 8}\nactor_rollout_ref: {rollout: {n: 4, prompt_length: '${data.x}'}}\n"
    done, recipe = of_text(VERL, text, tmp_path)
    assert (recipe.rollout.problems_per_step, recipe.rollout.num_generations) == (8, 4)
    assert kinds(done, "actor_rollout_ref.rollout.prompt_length") == set()
