"""Configurations of other trainers become recipes that load; no key of theirs is passed over in silence."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from grpo.data import load_data
from grpo.errors import UserError
from grpo.peers import PEERS, TRL, VERL, Peer, Translation, translate
from grpo.peers.document import peer_document
from grpo.peers.report import report_lines, to_json
from grpo.peers.shell import overrides_of
from grpo.recipe import Recipe, nearest_key, parse_recipe, recipe_keys
from grpo.recipe.keys import PEERS as HINTS

FIXTURES = Path(__file__).parent / "peers"
CONFIGS = sorted([*FIXTURES.glob("trl_*.yaml"), *FIXTURES.glob("verl_*.sh")])
REFUSED = {  # verl runs it with answers beyond the window that the model was made for
    "verl_gmpo_7b": "exceeds the window of Qwen/Qwen2.5-Math-7B, 4096 tokens"
}
TRL_FIELDS = json.loads((FIXTURES / "trl_fields.json").read_text(encoding="utf-8"))


def imported(name: str) -> tuple[Translation, Recipe]:
    path = next(path for path in CONFIGS if path.stem == name)
    done = translate(PEERS[name.partition("_")[0]], path)
    return done, parse_recipe(done.text)


def of_text(peer: Peer, text: str, folder: Path, suffix: str = ".yaml", **options: int) -> tuple[Translation, Recipe]:
    path = folder / f"config{suffix}"
    path.write_text(text, encoding="utf-8")
    done = translate(peer, path, **options)
    return done, parse_recipe(done.text)


def kinds(done: Translation, key: str) -> set[str]:
    return {entry.kind for entry in done.entries if entry.key == key}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_public_configuration_becomes_a_recipe_that_check_takes_or_names_why_not(path: Path) -> None:
    peer = PEERS[path.stem.partition("_")[0]]
    done = translate(peer, path)
    assert REFUSED.get(path.stem, "") in done.refusal
    assert bool(done.refusal) == (path.stem in REFUSED)
    said = {entry.key for entry in done.entries}
    assert [key for key in peer.read(path) if key not in said] == []
    assert [entry.key for entry in done.entries if entry.kind == "unknown"] in ([], ["trainer.nnodes"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_whatever_is_lost_has_a_reason(path: Path) -> None:
    done = translate(PEERS[path.stem.partition("_")[0]], path)
    assert [entry.key for entry in done.entries if entry.kind in ("lost", "needless") and not entry.sentence] == []


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
        "    args=GRPOConfig(num_generations=4, learning_rate=rate(), use_vllm=True), train_dataset=rows)\n"
    )
    _, recipe = of_text(TRL, script, tmp_path, ".py")
    assert (recipe.model, recipe.data.train.path) == ("Qwen/Qwen3-0.6B", "trl-lib/DeepMath-103K")
    assert (recipe.rollout.num_generations, recipe.rewards[0].name) == (4, "math_answer")
    assert recipe.learner.learning_rate == 1e-6


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


def test_a_shell_script_is_read_as_the_shell_would() -> None:
    script = """
# a comment with don't
n=$((2 * 4))
model=${MODEL:-"${HOME}/models/x"}
files="['a.parquet', 'b.parquet']"
ARGS=(
    data.train_batch_size=$((n * 8))  # of prompts
    +trainer.extra=True
)
cat > other.py << EOF
data.seed = 1
EOF
python3 -m verl.trainer.main_ppo \\
    data.train_files="$files" \\
    actor_rollout_ref.model.path=${model} \\
    trainer.logger='["console","wandb"]' \\
    trainer.nnodes=${UNSET} "${ARGS[@]}" $@
"""
    assert overrides_of(script, "run.sh") == {
        "data.train_files": ["a.parquet", "b.parquet"],
        "actor_rollout_ref.model.path": "~/models/x",
        "trainer.logger": ["console", "wandb"],
        "trainer.nnodes": "${UNSET}",
        "data.train_batch_size": 64,
        "trainer.extra": True,
    }


@pytest.mark.parametrize(
    ("peer", "suffix", "text", "said"),
    [
        (TRL, ".yaml", "a: 1\n", "none of TRL's keys"),
        (TRL, ".yaml", "- a\n", "no mapping of keys"),
        (TRL, ".py", "print(1)\n", "calls no GRPOConfig"),
        (TRL, ".py", "def\n", "not valid Python"),
        (TRL, ".yaml", "num_generations: eight\n", "num_generations = 'eight'"),
        (VERL, ".sh", "echo hello\n", "gives no override"),
        (VERL, ".sh", "echo 'open\n", "not valid shell"),
        (VERL, ".sh", "x data.train_batch_size=many\n", "data.train_batch_size = 'many'"),
        (VERL, ".yaml", "a: {b: 1}\n", "none of verl's keys"),
    ],
)
def test_what_is_no_configuration_is_refused(peer: Peer, suffix: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        of_text(peer, text, tmp_path, suffix)


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_tables_name_keys_that_there_are_and_give_reasons(peer: Peer) -> None:
    known = {key.replace(".N", "") for key in recipe_keys()}
    sections = {key.rpartition(".")[0] for key in known}
    assert [row.key for row in peer.rows if row.ours and row.ours not in known | sections] == []
    assert [row.key for row in peer.rows if not row.ours and not row.sentence] == []


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_hints_at_unknown_keys_say_what_the_tables_say(peer: Peer) -> None:
    for row in peer.rows:
        last = row.key.rpartition(".")[2]
        if row.ours and last in HINTS:
            assert HINTS[last] in {each.ours for each in peer.rows if each.key.rpartition(".")[2] == last}
            assert nearest_key(f"algorithm.{last}") == HINTS[last]


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_the_document_is_what_the_table_gives(peer: Peer) -> None:
    committed = (FIXTURES.parents[2] / "docs" / f"from_{peer.name}.md").read_text(encoding="utf-8")
    assert committed == peer_document(peer), "run `make docs`"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_report_for_people_fits_80_columns(path: Path) -> None:
    lines = list(report_lines(translate(PEERS[path.stem.partition("_")[0]], path)))
    assert [line for line in lines if len(line) > 80] == []


def test_the_report_for_programs_holds_every_key() -> None:
    done, recipe = imported("verl_qwen2_7b")
    said = json.loads(json.dumps(to_json(done)))
    assert parse_recipe(said["recipe"]) == recipe
    assert {entry["kind"] for entry in said["keys"]} >= {"translated", "implied", "lost", "needless", "added"}
