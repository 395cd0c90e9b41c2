"""Tiny checkpoints on disk, made once per run of the tests, and policies over them."""

from pathlib import Path

import pytest
import torch

from grpo.learner import Policy
from tests.models import write_dense, write_moe


@pytest.fixture(scope="session")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moe(tmp_path_factory.mktemp("moe"))


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("dense"))


@pytest.fixture
def policy(dense_folder: Path) -> Policy:
    return Policy.load(str(dense_folder), dtype=torch.float32, device="cpu")


@pytest.fixture
def moe_policy(moe_folder: Path) -> Policy:
    return Policy.load(str(moe_folder), dtype=torch.float32, device="cpu")
