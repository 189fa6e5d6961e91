"""Shared by all tests: determinism, no network whatever a library tries, and what needs a GPU."""

import gc
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, settings
from zygote import SHARED, forked_proofs, serve_all, zygote

from numprune_export.measure.gpu import read as gpu

# The same examples each time, and no judgement of seconds: the machine may be busy.
settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@cache
def _gpu_is_here() -> bool:
    """By the driver too: a runtime can have CUDA where this PyTorch has none."""
    return torch.cuda.is_available() or gpu.read() is not None


def pytest_configure(config):
    """Before the workers, where there are any."""
    if config.getoption("numprocesses", None) and SHARED not in os.environ:
        serve_all()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Files with a slow test come first: none is left for the end, when the other workers are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


_frozen = 0
"""Modules at the last call of `_freeze`."""


def _freeze():
    """What was imported stays: the collector need not look through it each time it is called."""
    global _frozen
    if len(sys.modules) > _frozen:
        gc.collect()
        gc.freeze()
        _frozen = len(sys.modules)


def pytest_collection_finish():
    _freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem):
    """What a test imported first is in no later test's way."""
    if nextitem is not None:
        _freeze()


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not _gpu_is_here():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _forked_proofs(request, monkeypatch):
    """Reload proofs in forks of a process that has PyTorch loaded; `fresh_proofs`: in fresh processes."""
    proof = sys.modules.get("numprune_export.models.checkpoint.reload_proof")
    if proof is not None and "fresh_proofs" not in request.fixturenames:
        monkeypatch.setattr(proof, "run_module", forked_proofs(lambda: zygote(os.getpid())))


@pytest.fixture
def fresh_proofs():
    """Reload proofs start Python anew, as users' do."""


@pytest.fixture(autouse=True)
def _deterministic():
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
