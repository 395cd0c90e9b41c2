"""Weights kept in bf16 on a CPU without bf16 products: values of bf16, sums of fp32."""

import json
import platform
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from grpo.learner import Learner, Policy
from grpo.precision import arithmetic_dtype
from tests.factories import make_ragged_samples, make_recipe


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("AVX2", torch.float32), ("DEFAULT", torch.float32), ("AVX512", torch.bfloat16), ("AMX", torch.bfloat16)],
)
def test_bf16_is_computed_in_fp32_only_where_it_would_be_emulated(
    monkeypatch: pytest.MonkeyPatch, capability: str, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert arithmetic_dtype(torch.bfloat16, on_gpu=False) is expected
    assert arithmetic_dtype(torch.bfloat16, on_gpu=True) is torch.bfloat16
    assert arithmetic_dtype(torch.float32, on_gpu=False) is torch.float32


def test_a_policy_kept_in_bf16_holds_and_saves_values_of_bf16(model_folder: Path, tmp_path: Path) -> None:
    policy = Policy.load(str(model_folder), dtype=torch.bfloat16, arithmetic=torch.float32, device="cpu")
    learner = Learner(policy, make_recipe(learner={"dtype": "bfloat16", "learning_rate": 1e-3}))
    before = {name: tensor.clone() for name, tensor in policy.named_tensors()}
    learner.step(make_ragged_samples(0, 4, old=False))
    moved = 0
    for name, parameter in policy.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, parameter.bfloat16().float()), name
    for name, tensor in policy.named_tensors():
        assert tensor.dtype == torch.bfloat16  # so half as much is published
        moved += int((tensor != before[name]).sum())
    assert moved > 0
    policy.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    again = Policy.load(str(tmp_path), dtype=torch.bfloat16, arithmetic=torch.float32, device="cpu")
    for (name, tensor), (_, other) in zip(policy.named_tensors(), again.named_tensors(), strict=True):
        assert torch.equal(tensor, other), name
    assert policy.model.dtype == torch.float32  # as it computes
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    stored = sum(tensor.numel() for tensor in saved.values())
    assert stored == sum(parameter.numel() for parameter in policy.model.parameters()), "a tied head once"
