"""What TRL's and open-r1's keys come to."""

from pathlib import Path

import pytest

from grpo.errors import UserError
from grpo.peers import TRL
from grpo.peers.report import report_lines
from tests.unit.public_configs import TRL_FIELDS, imported, kinds, of_text


def test_open_r1s_demo_keeps_its_meaning() -> None:
    done, recipe = imported("trl_qwen_demo")
    assert (recipe.rollout.problems_per_step, recipe.rollout.num_generations) == (4, 16)
    assert [reward.label for reward in recipe.rewards] == ["math_answer", "format", "tag_count"]
    assert (recipe.learner.learning_rate, recipe.learner.dtype, recipe.seed) == (2e-5, "bfloat16", 42)
    assert (recipe.learner.lr_scheduler_type, recipe.system_prompt, recipe.log.report_to) == (
        "cosine",
        "...",
        ["wandb"],
    )
    assert kinds(done, "num_train_epochs") == {"lost"}
    assert kinds(done, "model_revision") == {"default"}


def test_trls_defaults_that_are_not_ours_are_written_out(tmp_path: Path) -> None:
    done, recipe = of_text(TRL, "model_name_or_path: a/b\nuse_vllm: true\nbeta: 0.01\n", tmp_path)
    algorithm = recipe.algorithm
    assert (algorithm.importance_sampling_mode, algorithm.importance_sampling_cap) == ("sequence_mask", 3.0)
    assert algorithm.kl_importance_correction
    assert (recipe.learner.learning_rate, recipe.learner.lr_scheduler_type) == (1e-6, "linear")
    assert kinds(done, "learning_rate") == {"implied"}


@pytest.mark.parametrize(
    ("text", "problems", "minibatches", "steps"),
    [
        ("per_device_train_batch_size: 16", 8, 1, 100),
        ("per_device_train_batch_size: 16\ngradient_accumulation_steps: 4", 32, 1, 100),
        ("per_device_train_batch_size: 16\nsteps_per_generation: 4", 32, 4, 25),
        ("per_device_train_batch_size: 16\ngeneration_batch_size: 128\nnum_iterations: 2", 16, 2, 25),
    ],
)
def test_trls_batches_are_reckoned_in_problems_and_rollouts(
    text: str, problems: int, minibatches: int, steps: int, tmp_path: Path
) -> None:
    whole = f"model_name_or_path: a/b\nuse_vllm: true\nmax_steps: 100\nnum_generations: 8\n{text}\n"
    _, recipe = of_text(TRL, whole, tmp_path, num_processes=4)
    assert recipe.rollout.problems_per_step == problems
    assert (recipe.algorithm.num_minibatches, recipe.max_steps) == (minibatches, steps)


@pytest.mark.parametrize(
    ("text", "policy_loss", "loss_type"),
    [
        ("loss_type: grpo", "clip", "grpo"),
        ("loss_type: bnpo", "clip", "dapo"),
        ("loss_type: sapo", "sapo", "grpo"),
        ("loss_type: grpo\nimportance_sampling_level: sequence", "gspo", "grpo"),
        ("loss_type: cispo\nepsilon_high: 5.0", "cispo", "dapo"),
    ],
)
def test_trls_losses(text: str, policy_loss: str, loss_type: str, tmp_path: Path) -> None:
    _, recipe = of_text(TRL, f"model_name_or_path: a/b\n{text}\n", tmp_path)
    assert (recipe.algorithm.policy_loss, recipe.algorithm.loss_type) == (policy_loss, loss_type)
    if policy_loss == "cispo":
        assert recipe.algorithm.clip_range == (0.0, 5.0)


def test_trls_cispo_without_a_cap_of_its_own_is_capped_at_epsilon_which_is_told(tmp_path: Path) -> None:
    done, _ = of_text(TRL, "model_name_or_path: a/b\nloss_type: cispo\nepsilon: 3.0\n", tmp_path)
    assert done.values["algorithm.epsilon_high"] == 2.0
    done, _ = of_text(TRL, "model_name_or_path: a/b\nloss_type: cispo\n", tmp_path)
    assert "the cap there is 0.2" in " ".join("\n".join(report_lines(done)).split())


@pytest.mark.parametrize(
    ("text", "ours", "expected"),
    [
        ("lr_scheduler_type: constant\nwarmup_ratio: 0.1", "learner.warmup_steps", None),
        ("lr_scheduler_type: constant_with_warmup\nwarmup_ratio: 0.1", "learner.warmup_steps", 10),
        ("lr_scheduler_type: cosine\nwarmup_ratio: 0.5\nwarmup_steps: 10", "learner.warmup_steps", 10),
        ("lr_scheduler_type: cosine\nsteps_per_generation: 16\nwarmup_steps: 10", "learner.warmup_steps", 10),
        ("eval_strategy: steps\nlogging_steps: 5", "evaluation.every", 5),
        ("eval_strategy: steps\neval_steps: 20\nlogging_steps: 5", "evaluation.every", 20),
        ("eval_strategy: epoch\neval_steps: 20", "evaluation.every", None),
        ("eval_steps: 20", "evaluation.every", None),
        ("dtype: float16", "learner.dtype", None),
    ],
)
def test_what_transformers_makes_of_several_keys(text: str, ours: str, expected: object, tmp_path: Path) -> None:
    done, _ = of_text(TRL, f"model_name_or_path: a/b\nmax_steps: 100\n{text}\n", tmp_path)
    assert done.values.get(ours) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_generations: 0", "of config.yaml, or one that it is reckoned with"),
        ("gradient_accumulation_steps: 0", "of config.yaml, or one that it is reckoned with"),
        ("lr_scheduler_kwargs: x", "of config.yaml, or one that it is reckoned with"),
        ("dataset_mixture: [a]", "of config.yaml, or one that it is reckoned with"),
        ("dataset_mixture: {datasets: [a]}", "of config.yaml, or one that it is reckoned with"),
        ("reward_funcs: [accuracy, format]\nreward_weights: [1.0]", "reward_weights has 1 numbers, and .* 2 functions"),
    ],
)
def test_values_that_trl_would_not_take_are_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        of_text(TRL, f"model_name_or_path: a/b\n{text}\n", tmp_path)


def test_weights_of_functions_that_stand_in_a_script_are_lost(tmp_path: Path) -> None:
    done, _ = of_text(TRL, "model_name_or_path: a/b\nreward_weights: [1.0, 0.2]\n", tmp_path)
    assert kinds(done, "reward_weights") == {"lost"}


def test_a_reward_without_counterpart_is_named_and_the_others_stay(tmp_path: Path) -> None:
    text = "reward_funcs: [accuracy, reasoning_steps, my.module.bonus]\nreward_weights: [1.0, 0.5, 0.2]\n"
    done, recipe = of_text(TRL, text, tmp_path)
    assert [(reward.label, reward.weight) for reward in recipe.rewards] == [("math_answer", 1.0), ("bonus", 0.2)]
    assert recipe.rewards[1].fn == "my.module:bonus"
    assert "open_r1.rewards:reasoning_steps_reward" in "\n".join(report_lines(done))


def test_a_script_of_trl_gives_its_literals(tmp_path: Path) -> None:
    script = (
        "from trl import GRPOConfig, GRPOTrainer\nfrom trl.rewards import accuracy_reward\n"
        "rows = load_dataset('trl-lib/DeepMath-103K', split='train')\n"
        "GRPOTrainer(model='Qwen/Qwen3-0.6B', reward_funcs=accuracy_reward,\n"
        "    args=GRPOConfig(num_generations=4, learning_rate=args.rate, use_vllm=True), train_dataset=rows)\n"
    )
    _, recipe = of_text(TRL, script, tmp_path, ".py")
    assert (recipe.model, recipe.data.train.path) == ("Qwen/Qwen3-0.6B", "trl-lib/DeepMath-103K")
    assert (recipe.rollout.num_generations, recipe.rewards[0].name) == (4, "math_answer")
    assert recipe.learner.learning_rate == 1e-6


def test_a_script_of_trl_gives_what_its_constants_come_to(tmp_path: Path) -> None:
    script = """
from mine import rew
NUM_GEN: int = 16
MODEL = "Qwen/" + "Qwen3-0.6B"
rows = load_dataset("json", data_files="my.jsonl", split="train")
def main():
    length = 1024 * 4
    config = GRPOConfig(num_generations=NUM_GEN, max_completion_length=length, beta=float("0.04"),
        learning_rate=5 * 10**-7, warmup_ratio=1 / 10, max_steps=NUM_GEN // 3 + 95, run_name=f"a-{NUM_GEN}",
        logging_steps=-(-10), seed=script_args.seed, **{"top_p": 1.0})
    GRPOTrainer(model=MODEL, reward_funcs=(rew,), args=config, train_dataset=rows)
"""
    done, recipe = of_text(TRL, script, tmp_path, ".py")
    assert (recipe.model, recipe.data.train.path) == ("Qwen/Qwen3-0.6B", "my.jsonl")
    assert (recipe.rollout.num_generations, recipe.rollout.max_completion_length) == (16, 4096)
    assert (recipe.algorithm.beta, recipe.max_steps, recipe.rewards[0].fn) == (0.04, 100, "mine:rew")
    assert recipe.learner.learning_rate == pytest.approx(5e-7)
    assert kinds(done, "run_name") == {"lost"}
    assert kinds(done, "seed") <= {"default", "implied"}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "GRPOConfig(\n    beta=beta_of(4))",
            r"config.py, line 2: beta = beta_of\(4\) is known only .* or leave the key",
        ),
        ("N = 4\nN = 8\nGRPOConfig(num_generations=N)", "line 3: num_generations = N is"),
        ("def main(n=4):\n    GRPOConfig(num_generations=n)", "line 2: num_generations = n is"),
        ("n = n + 1\nGRPOConfig(num_generations=n)", "num_generations = n is"),
        ("GRPOConfig(num_generations=10 ** 10 ** 10)", "num_generations = 10 "),
        ("GRPOConfig(**vars(args))", r"\*\*GRPOConfig = vars\(args\) .* write its keys out"),
        ("GRPOTrainer(reward_funcs=[make(2)], args=GRPOConfig())", r"reward_funcs = make\(2\) .* function's name"),
        ("load_dataset('json', data_files=files())\nGRPOConfig()", r"data_files = files\(\) .* data.train.path"),
    ],
)
def test_what_only_running_a_script_would_tell_is_refused(script: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        of_text(TRL, f"{script}\n", tmp_path, ".py")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr_scheduler_type: cosine", ("cosine", 0.0)),
        ("lr_scheduler_type: constant_with_warmup", ("constant", 0.0)),
        ("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: 0.1}", ("cosine", 0.1)),
        ("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 5.0e-7}", ("cosine", 0.5)),
    ],
)
def test_trls_schedules(text: str, expected: tuple[str, float], tmp_path: Path) -> None:
    _, recipe = of_text(TRL, f"model_name_or_path: a/b\nlearning_rate: 1.0e-6\n{text}\n", tmp_path)
    assert (recipe.learner.lr_scheduler_type, recipe.learner.min_lr_rate) == expected


def test_a_schedule_with_other_arguments_is_named(tmp_path: Path) -> None:
    text = "lr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 2}\n"
    done, _ = of_text(TRL, text, tmp_path)
    assert kinds(done, "lr_scheduler_kwargs") == {"lost"}


def test_a_mixture_of_trl_is_a_list_of_sources(tmp_path: Path) -> None:
    text = """
dataset_mixture:
  datasets:
    - {id: a/math, config: all, split: train, weight: 0.5}
    - {id: b/code, split: train_sft}
dataset_prompt_column: problem
"""
    done, recipe = of_text(TRL, text, tmp_path)
    sources = list(recipe.data.train_sources().values())
    assert [(source.path, source.subset, source.split) for source in sources] == [
        ("a/math", "all", "train"),
        ("b/code", None, "train_sft"),
    ]
    assert [(source.question, source.reference, source.weight) for source in sources] == [
        ("problem", "solution", 0.5),
        ("problem", "solution", 1.0),
    ]
    assert "multiply each by its number of rows" in " ".join(" ".join(report_lines(done)).split())


def test_chat_sinks_and_the_best_checkpoint_of_trl(tmp_path: Path) -> None:
    text = """
system_prompt: "Think: then answer."
chat_template: "{{ messages }}"
chat_template_kwargs: {enable_thinking: false}
report_to: [tensorboard, trackio, mlflow]
metric_for_best_model: eval_reward
greater_is_better: true
save_total_limit: 3
"""
    done, recipe = of_text(TRL, text, tmp_path)
    assert (recipe.template, recipe.system_prompt) == ("chat", "Think: then answer.")
    assert recipe.chat_template_kwargs == {"enable_thinking": False}
    assert recipe.log.report_to == ["tensorboard", "trackio"]
    assert kinds(done, "chat_template") == {"lost"}
    said = next(entry.sentence for entry in done.entries if entry.key == "report_to")
    assert "no mlflow" in said
    assert recipe.checkpoint.keep == 3
    assert kinds(done, "metric_for_best_model") == {"lost"}  # nothing is evaluated at the steps that are saved
    _, recipe = of_text(TRL, f"{text}eval_strategy: steps\neval_steps: 50\nsave_steps: 100\n", tmp_path)
    assert recipe.checkpoint.metric_for_best_model == "pass@1"


def test_every_field_of_trls_config_is_in_the_table_with_its_default() -> None:
    assert TRL_FIELDS["trl"].startswith(f"{TRL.version}.")
    defaults = {row.key: row.default for row in TRL.rows}
    assert [field for field in TRL_FIELDS["fields"] if field not in defaults] == []
    assert {field: defaults[field] for field in TRL_FIELDS["fields"]} == TRL_FIELDS["fields"]
