"""The learner on several processes: five steps are those of one process, whatever the processes share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor

from grpo.learner import Learner, Policy
from grpo.learner.mesh import ALONE, lay_out
from grpo.recipe import Parallel, Recipe
from tests.factories import make_ragged_samples, make_recipe
from tests.models import write_dense, write_moe
from tests.parallel.ranks import run

STEPS = 5
TEXT = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 32]
ONE_DIMENSION = [{name: 2} for name in ("replicate", "shard", "tensor", "context", "pipeline")]
FOUR = [{"shard": 4}, {"context": 4}]
TWO_DIMENSIONS = [
    *({"shard": 2, "tensor": 2}, {"replicate": 2, "shard": 2}, {"replicate": 2, "tensor": 2}),
    *({"shard": 2, "context": 2}, {"context": 2, "tensor": 2}, {"pipeline": 2, "tensor": 2}),
    {"pipeline": 2, "replicate": 2},
]
REST = [*FOUR, *TWO_DIMENSIONS[1:]]


@pytest.fixture(scope="module", params=["dense", "moe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write = write_dense if request.param == "dense" else write_moe
    return write(tmp_path_factory.mktemp(request.param))


def recipe_of(sizes: dict[str, int], algorithm: dict[str, Any], learner: dict[str, Any]) -> Recipe:
    recipe = make_recipe(
        algorithm=algorithm,
        learner={"row_tokens": 40, "max_grad_norm": 0.5, "learning_rate": 1e-4} | learner,
        rollout={"max_prompt_length": 8},
    )
    return recipe.model_copy(update={"parallel": Parallel(**sizes), "max_steps": STEPS})


def train(
    rank: int,
    folder: Path,
    sizes: dict[str, int],
    dtype: torch.dtype,
    num_samples: int,
    algorithm: dict[str, Any],
    learner_keys: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Five steps; what they gave, and the whole of every parameter afterwards."""
    recipe = recipe_of(sizes, algorithm, learner_keys or {})
    mesh = lay_out(recipe.parallel, "cpu") if recipe.parallel.num_processes > 1 else ALONE
    policy = Policy.load(str(folder), dtype=dtype, device="cpu", mesh=mesh)
    local = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in policy.model.parameters())
    learner = Learner(policy, recipe)
    found = []
    for step in range(STEPS):
        samples = make_ragged_samples(step, num_samples, old=False)
        found.append(learner.step(samples))
    old = learner.with_old_logprobs(make_ragged_samples(99, 7, old=False))
    return {
        "loss": [stats.loss for stats in found],
        "grad_norm": [stats.grad_norm for stats in found],
        "num_tokens": [stats.num_tokens for stats in found],
        "entropy": [stats.entropy for stats in found],
        "kl": [stats.kl for stats in found],
        "num_loss_tokens": [len(stats.difference_N) for stats in found],
        "old": np.concatenate([sample.old_logprobs_L for sample in old]),
        "score": policy.score(TEXT),
        "num_local": local,
        "tensors": {name: tensor.clone() for name, tensor in policy.named_tensors()},
        "optimizer": {name: tensor.clone() for name, tensor in learner.optimizer.tensors()},
    }


def compare(ranks: list[dict[str, Any]], alone: dict[str, Any], tolerance: float) -> None:
    for rank in ranks:
        for name in ("loss", "grad_norm", "entropy"):
            np.testing.assert_allclose(rank[name], alone[name], rtol=tolerance, err_msg=name)
        assert rank["num_tokens"] == alone["num_tokens"]
        assert rank["num_loss_tokens"] == alone["num_loss_tokens"]
        np.testing.assert_allclose(rank["old"], alone["old"], atol=max(tolerance, 1e-6))
        np.testing.assert_allclose(rank["score"], alone["score"], atol=max(tolerance, 1e-6))
        assert rank["tensors"].keys() == alone["tensors"].keys()
        assert rank["optimizer"].keys() == alone["optimizer"].keys()


@pytest.mark.parametrize("sizes", ONE_DIMENSION, ids=str)
def test_five_steps_are_those_of_one_process(folder: Path, sizes: dict[str, int]) -> None:
    compare_five_steps(folder, sizes)


@pytest.mark.parametrize(
    "sizes", [TWO_DIMENSIONS[0], *(pytest.param(s, marks=pytest.mark.slow) for s in REST)], ids=str
)
def test_five_steps_on_four_processes_are_those_of_one(folder: Path, sizes: dict[str, int]) -> None:
    compare_five_steps(folder, sizes)


def compare_five_steps(folder: Path, sizes: dict[str, int]) -> None:
    arguments = (torch.float32, 13, {})
    alone = train(0, folder, {}, *arguments)
    ranks = run(train, Parallel(**sizes).num_processes, folder, sizes, *arguments)
    compare(ranks, alone, 1e-5)


def test_experts_are_whole_where_that_is_asked_for(tmp_path: Path) -> None:
    folder, sizes = write_moe(tmp_path), {"tensor": 2, "expert": 2}
    alone = train(0, folder, {}, torch.float32, 13, {})
    compare(run(train, 2, folder, sizes, torch.float32, 13, {}), alone, 1e-5)


@pytest.mark.parametrize(
    "sizes", [{"shard": 2}, {"tensor": 2}, {"context": 2}, {"pipeline": 2}, {"shard": 2, "tensor": 2}], ids=str
)
def test_parameters_are_those_of_one_process_to_the_last_digits(tmp_path: Path, sizes: dict[str, int]) -> None:
    """In double precision, where Adam does not turn rounding into steps."""
    folder = write_dense(tmp_path)
    arguments = (torch.float64, 13, {"beta": 0.01})
    alone = train(0, folder, {}, *arguments)
    ranks = run(train, Parallel(**sizes).num_processes, folder, sizes, *arguments)
    compare(ranks, alone, 1e-9)
    for rank in ranks:
        for part in ("tensors", "optimizer"):
            for name, tensor in rank[part].items():
                torch.testing.assert_close(tensor, alone[part][name], rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    "sizes",
    [{"shard": 4}, *(pytest.param(s, marks=pytest.mark.slow) for s in ({"replicate": 4}, {"context": 4}))],
    ids=str,
)
def test_processes_without_a_row_take_part(folder: Path, sizes: dict[str, int]) -> None:
    """One sample is one row, for one share of two or four."""
    alone = train(0, folder, {}, torch.float32, 1, {})
    compare(run(train, 4, folder, sizes, torch.float32, 1, {}), alone, 1e-5)


def test_an_optimizer_in_the_machines_memory_steps_alike(tmp_path: Path) -> None:
    folder = write_dense(tmp_path)
    alone = train(0, folder, {}, torch.float64, 9, {})
    for sizes in ({}, {"shard": 2}):
        offloaded = {"offload_optimizer": True}
        arguments = (folder, sizes, torch.float64, 9, {}, offloaded)
        ranks = run(train, 2, *arguments) if sizes else [train(0, *arguments)]
        for rank in ranks:
            np.testing.assert_allclose(rank["grad_norm"], alone["grad_norm"], rtol=1e-9)
            for name, tensor in rank["tensors"].items():
                torch.testing.assert_close(tensor, alone["tensors"][name], rtol=0, atol=1e-9, msg=name)


def test_several_updates_a_rollout_and_a_reference(folder: Path) -> None:
    algorithm = {"beta": 0.1, "loss_type": "grpo"}
    alone = train(0, folder, {}, torch.float32, 9, algorithm)
    ranks = run(train, 2, folder, {"shard": 2}, torch.float32, 9, algorithm)
    compare(ranks, alone, 1e-5)
    np.testing.assert_allclose(ranks[0]["kl"], alone["kl"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("sizes", [{"context": 2}, {"shard": 2}, {"pipeline": 2}], ids=str)
def test_what_looks_at_whole_answers_and_whole_updates_is_the_same_on_a_mesh(
    folder: Path, sizes: dict[str, int]
) -> None:
    algorithm = {
        "policy_loss": "gspo_token",
        "importance_sampling_mode": "sequence_truncate",
        "top_entropy_quantile": 0.5,
        "entropy_coef": 0.01,
        "off_policy_mask_threshold": 0.1,
    }
    alone = train(0, folder, {}, torch.float32, 9, algorithm)
    compare(run(train, 2, folder, sizes, torch.float32, 9, algorithm), alone, 1e-5)


def test_what_is_to_be_shared_out_is(folder: Path) -> None:
    alone = train(0, folder, {}, torch.float32, 2, {})["num_local"]
    sharded = [rank["num_local"] for rank in run(train, 4, folder, {"shard": 4}, torch.float32, 2, {})]
    assert sum(sharded) == alone
    assert max(sharded) < 0.3 * alone
    cut = [rank["num_local"] for rank in run(train, 2, folder, {"tensor": 2}, torch.float32, 2, {})]
    assert max(cut) < 0.85 * alone  # embedding, head, norms and router are whole


def save(rank: int, folder: Path, target: Path, sizes: dict[str, int]) -> None:
    mesh = lay_out(Parallel(**sizes), "cpu")
    Policy.load(str(folder), dtype=torch.float32, device="cpu", mesh=mesh).save(target)


@pytest.mark.parametrize("sizes", [{"shard": 2}, {"tensor": 2}, {"pipeline": 2}], ids=str)
def test_a_checkpoint_of_parts_is_the_checkpoint_of_the_whole(
    folder: Path, tmp_path: Path, sizes: dict[str, int]
) -> None:
    run(save, 2, folder, tmp_path, sizes)
    before, after = (Policy.load(str(path), dtype=torch.float32, device="cpu") for path in (folder, tmp_path))
    for (name, ours), (_, theirs) in zip(before.named_tensors(), after.named_tensors(), strict=True):
        assert torch.equal(ours, theirs), name
