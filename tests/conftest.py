"""What every test shares: the mark ``gpu``, which skips with its reason where there is no GPU."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

GPU_TESTS = Path(__file__).parent / "gpu"


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    no_gpu = pytest.mark.skip(reason="no NVIDIA GPU: nvidia-smi is not on the path")
    for item in items:
        if GPU_TESTS in item.path.parents:
            item.add_marker(pytest.mark.gpu)
        if item.get_closest_marker("gpu") and shutil.which("nvidia-smi") is None:
            item.add_marker(no_gpu)
