"""Shared by all tests: determinism, no network whatever a library tries, and what needs a GPU."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from functools import cache

import pytest
import torch

from numprune_export.measure.gpu import read as gpu


@cache
def _gpu_is_here() -> bool:
    """By the driver too: a runtime can have CUDA where this PyTorch has none."""
    return torch.cuda.is_available() or gpu.read() is not None


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not _gpu_is_here():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _deterministic():
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
