"""Weights that did not arrive, arrived as others, or were undone after they had arrived.

The guard is the publish proof (`grpo.weights`): every tensor's hash and the version come back from the engine, and both
sides must score the same text alike, after every publish. Each bug sits in a real engine over a real model.
"""

from pathlib import Path

import pytest
import torch

from grpo.errors import PublishError
from grpo.learner import Policy
from grpo.weights import FP32_TOLERANCE, Publisher, Tensors
from tests.immunity.engines import CopyingEngine
from tests.immunity.runs import PROBES

Weights = dict[str, torch.Tensor]


def learn(policy: Policy, seed: int = 0) -> None:
    """Move every weight, as an update does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=generator))


def publish(policy: Policy, engine: CopyingEngine, version: int) -> None:
    publication = Publisher(policy, engine, PROBES, exact=True).publish(version)
    assert publication.probe_difference < FP32_TOLERANCE


def weights_of(policy: Policy) -> Weights:
    return {name: tensor.clone() for name, tensor in policy.named_tensors()}


class Waking(CopyingEngine):
    """Is put to sleep and woken around each load, and wakes with the weights that it slept with."""

    slept_with: Weights | None = None

    def computes_with(self, arrived: Weights) -> Weights:
        woken, self.slept_with = self.slept_with or arrived, arrived
        return woken


class Garbling(CopyingEngine):
    """The first load is right; from the second on, what lay asleep is written over a layer."""

    num_loads = 0

    def computes_with(self, arrived: Weights) -> Weights:
        self.num_loads += 1
        if self.num_loads == 1:
            return arrived
        return {n: t.flip(0) if n.endswith("layers.1.mlp.up_proj.weight") else t for n, t in arrived.items()}


class ByChunks(CopyingEngine):
    """Finishes a load after every chunk, which puts back the experts that this chunk did not bring."""

    before: Weights | None = None

    def computes_with(self, arrived: Weights) -> Weights:
        before, self.before = self.before or arrived, arrived
        last_chunk = list(arrived)[len(arrived) // 2 :]
        return {n: t if ".experts." not in n or n in last_chunk else before[n] for n, t in arrived.items()}


class WithoutAnExpert(CopyingEngine):
    def arrives(self, tensors: Tensors) -> Tensors:
        return ((name, tensor) for name, tensor in tensors if "layers.1.mlp.experts.2.down_proj" not in name)


@pytest.mark.parametrize("architecture", ["dense", "moe"])
def test_without_a_bug_five_updates_arrive(architecture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source = request.getfixturevalue(f"{architecture}_folder")
    policy = Policy.load(str(source), dtype=torch.float32, device="cpu")
    engine = CopyingEngine(source, tmp_path)
    for version in range(5):
        publish(policy, engine, version)
        learn(policy, version)


def test_weights_from_before_the_engine_slept_stop_the_run(policy: Policy, dense_folder: Path, tmp_path: Path) -> None:
    engine = Waking(dense_folder, tmp_path)
    publish(policy, engine, 0)
    learn(policy)
    with pytest.raises(PublishError, match="the right bytes arrived, yet probe texts score"):
        publish(policy, engine, 1)


def test_weights_garbled_from_the_second_update_on_stop_the_run_at_that_update(
    policy: Policy, dense_folder: Path, tmp_path: Path
) -> None:
    engine = Garbling(dense_folder, tmp_path)
    publish(policy, engine, 0)
    learn(policy)
    with pytest.raises(PublishError, match="version sent 1, version held 1"):
        publish(policy, engine, 1)


def test_experts_put_back_by_a_load_in_chunks_stop_the_run(
    moe_policy: Policy, moe_folder: Path, tmp_path: Path
) -> None:
    engine = ByChunks(moe_folder, tmp_path)
    publish(moe_policy, engine, 0)
    learn(moe_policy)
    with pytest.raises(PublishError, match="nats apart"):
        publish(moe_policy, engine, 1)


def test_an_expert_that_never_arrives_stops_the_run_by_its_name(
    moe_policy: Policy, moe_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(PublishError, match="a tensor never arrived") as caught:
        publish(moe_policy, WithoutAnExpert(moe_folder, tmp_path), 0)
    assert caught.value.tensor == "model.layers.1.mlp.experts.2.down_proj.weight"


def test_a_payload_that_is_the_model_from_the_start_every_time_stops_the_run(
    policy: Policy, dense_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when what was trained is an adapter, and the frozen weights under it are sent: hashes and versions agree."""
    engine = CopyingEngine(dense_folder, tmp_path)
    frozen = weights_of(policy)
    monkeypatch.setattr(policy, "named_tensors", lambda: iter(frozen.items()))
    publish(policy, engine, 0)
    learn(policy)
    with pytest.raises(PublishError, match="nats apart"):
        publish(policy, engine, 1)


def test_weights_that_lost_digits_on_the_way_to_be_sent_stop_the_run(
    policy: Policy, dense_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an adapter is merged into weights of four bits: what is sent is not what the learner computes with."""
    engine = CopyingEngine(dense_folder, tmp_path)
    publish(policy, engine, 0)
    exact = policy.named_tensors
    monkeypatch.setattr(policy, "named_tensors", lambda: ((n, in_four_bits(t)) for n, t in exact()))
    with pytest.raises(PublishError, match="nats apart"):
        publish(policy, engine, 1)


def in_four_bits(tensor: torch.Tensor) -> torch.Tensor:
    step = tensor.abs().amax(-1, keepdim=True) / 7
    return (tensor / step).round() * step
