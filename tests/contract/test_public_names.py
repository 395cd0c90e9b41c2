"""What users may rely on: recipe keys, errors, packages' ``__all__``, worked examples, the console script."""

import doctest
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import grpo
from grpo import errors
from grpo.recipe import recipe_keys

ROOT = Path(__file__).parents[2]
PACKAGES = ["grpo.recipe", "rewards"]
# Examples that need vLLM run with the engine's own tests.
EXAMPLES = sorted(
    path
    for folder in ("grpo", "rewards")
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8") and "vllm_engine" not in path.parts
)

KEYS = """
model seed max_steps max_time output_dir template system_prompt chat_template_kwargs num_gpus
data.train.path data.train.split data.train.subset data.train.question data.train.reference
data.train.reference_pattern data.train.args data.train.limit
data.train.filter data.train.weight data.train.curriculum
data.held_out.path data.held_out.split data.held_out.subset data.held_out.question data.held_out.reference
data.held_out.reference_pattern data.held_out.args data.held_out.limit
data.held_out.filter data.held_out.weight
data.num_held_out data.on_bad_reference
rewards.N.name rewards.N.fn rewards.N.weight rewards.N.gate rewards.N.args
scoring.num_workers scoring.cpu_s scoring.deadline_s scoring.memory_mb scoring.concurrency
scoring.audit.name scoring.audit.fn scoring.audit.args scoring.audit.share
rollout.engine rollout.num_engines rollout.servers rollout.tensor_parallel rollout.expert_parallel rollout.sleep
rollout.engine_dtype rollout.kv_cache_gb rollout.gpu_memory_utilization rollout.max_num_seqs
rollout.compile rollout.problems_per_step rollout.num_generations rollout.max_prompt_length
rollout.max_completion_length rollout.temperature rollout.top_p rollout.top_k rollout.stop rollout.tool
rollout.max_tool_calls rollout.max_staleness rollout.max_refill_groups rollout.min_pass_rate rollout.max_pass_rate
engine.args
algorithm.preset algorithm.baseline algorithm.scale_rewards algorithm.pass_at_k algorithm.multi_objective_aggregation
algorithm.policy_loss algorithm.loss_type algorithm.epsilon algorithm.epsilon_high algorithm.delta
algorithm.sapo_temperature_pos algorithm.sapo_temperature_neg algorithm.dppo_threshold algorithm.entropy_coef
algorithm.top_entropy_quantile algorithm.mask_truncated_completions algorithm.beta algorithm.kl_estimator
algorithm.kl_in algorithm.kl_importance_correction algorithm.ref_model_sync_steps algorithm.ref_model_mixup_alpha
algorithm.old algorithm.importance_sampling_correction algorithm.importance_sampling_mode
algorithm.importance_sampling_cap algorithm.importance_sampling_min algorithm.off_policy_mask_threshold
algorithm.num_minibatches algorithm.num_iterations
learner.dtype learner.learning_rate learner.lr_scheduler_type learner.min_lr_rate learner.warmup_steps
learner.weight_decay
learner.adam_beta1 learner.adam_beta2
learner.max_grad_norm learner.row_tokens learner.gradient_checkpointing learner.offload_optimizer
parallel.replicate parallel.shard parallel.tensor parallel.expert parallel.context parallel.pipeline
parallel.timeout_s
evaluation.every evaluation.num_samples evaluation.temperature evaluation.top_p
checkpoint.every checkpoint.keep checkpoint.keep_every checkpoint.metric_for_best_model checkpoint.greater_is_better
log.report_to log.project log.wandb_mode log.transcripts_per_step
"""


def module_of(path: Path) -> ModuleType:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def _is_ours(value: object) -> bool:
    """Whether a name of a package is its own, not one that it imported from elsewhere for its own use."""
    if inspect.ismodule(value):
        return False
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__module__.partition(".")[0] in ("grpo", "rewards")
    return not getattr(value, "__module__", "").startswith(("typing", "collections"))


def test_recipe_keys_are_those_that_users_have_written_down() -> None:
    assert list(recipe_keys()) == KEYS.split()


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_the_public_surface(package: str) -> None:
    module = importlib.import_module(package)
    public = {name for name, value in vars(module).items() if not name.startswith("_") and _is_ours(value)}
    assert set(module.__all__) == public
    assert len(module.__all__) == len(set(module.__all__))


def test_the_tree_drawn_in_errors_is_the_tree_there_is() -> None:
    drawn: dict[str, str | None] = {}
    parents: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        match = re.match(r"^([\s│├└─]*)([A-Z]\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4 - 1
            parents[max(depth, 0) :] = [match[2]]
            drawn[match[2]] = parents[depth - 1] if depth > 0 else None
    real = {
        name: next((base.__name__ for base in cls.__bases__ if issubclass(base, errors.GrpoError)), None)
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.GrpoError)
    }
    assert drawn == real


def test_what_grpo_offers_is_there_and_no_submodule_hides_it() -> None:
    for name in grpo.__all__:
        assert callable(getattr(grpo, name))
        assert importlib.util.find_spec(f"grpo.{name}") is None, f"importing grpo/{name}.py would replace grpo.{name}"
    assert set(grpo.__all__) <= set(dir(grpo))
    with pytest.raises(AttributeError, match="no attribute 'trian'; it has Recipe"):
        _ = grpo.trian


def test_import_grpo_is_light() -> None:
    code = "import grpo, sys; grpo.load_recipe, grpo.Run, grpo.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_user_errors_end_with_2_and_run_errors_with_1() -> None:
    for _, cls in inspect.getmembers(errors, inspect.isclass):
        if issubclass(cls, errors.UserError):
            assert (cls.exit_code, issubclass(cls, ValueError)) == (2, True)
        elif issubclass(cls, errors.RunError):
            assert (cls.exit_code, issubclass(cls, RuntimeError)) == (1, True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_worked_examples_hold(path: Path) -> None:
    result = doctest.testmod(module_of(path), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_console_script_and_the_package_data_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module, _, function = project["project"]["scripts"]["grpo"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    for pattern in project["tool"]["setuptools"]["package-data"]["grpo"]:
        assert any((ROOT / "grpo").glob(pattern)), f"no file matches grpo/{pattern}"


def test_every_dependency_is_bounded_above() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (item for items in lists for item in items if not item.startswith("grpo[")):
        assert "<" in requirement or "==" in requirement, requirement


def test_every_reward_by_name_is_in_its_document() -> None:
    from rewards import VERIFIERS

    text = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    assert [name for name in VERIFIERS if f"| `{name}` |" not in text] == []
