"""Tiny checkpoints on disk, made once per run of the tests."""

from pathlib import Path

import pytest

from tests.models import write_dense, write_moe


@pytest.fixture(scope="session")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moe(tmp_path_factory.mktemp("moe"))


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("dense"))


@pytest.fixture(params=["moe", "tied_dense"])
def model_folder(request: pytest.FixtureRequest, moe_folder: Path, dense_folder: Path) -> Path:
    """Each of both in turn."""
    return moe_folder if request.param == "moe" else dense_folder
