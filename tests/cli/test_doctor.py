"""What this machine can run and what to install for the rest."""

from dataclasses import replace

import pytest
import torch
from gpu_sample import QUIET

from numprune_export.cli.doctor import PARTS
from numprune_export.core import plugins
from numprune_export.core.plugins import installed_version
from numprune_export.export import targets
from numprune_export.measure.gpu import read as gpu


@pytest.fixture
def installed(monkeypatch):
    """Say which distributions are there, as `name=version`; the others are as they are."""
    changes = {}
    monkeypatch.setattr(
        plugins, "installed_version", lambda name: changes.get(name, installed_version(name))
    )
    return changes


def test_every_part_is_there_with_its_version_or_has_an_install_line(printed, installed):
    installed |= {"gguf": None, "tensorrt-cu12": "10.9.0", "tensorrt": None, "tensorrt-cu13": None}
    lines = printed("doctor").splitlines()
    assert "  tensorrt-cu12 10.9.0               build and run TensorRT engines" in lines
    (line,) = (line for line in lines if "gguf missing" in line)
    assert line.endswith("pip install 'numprune-export[gguf]'")


def test_a_machine_with_nothing_optional_gets_every_install_line(printed, installed):
    installed |= {name: None for part in PARTS for name in part.distributions}
    lines = [line.strip() for line in printed("doctor").splitlines()]
    for part in PARTS:
        said = f"{part.distributions[0] + ' missing':34} {part.purpose}: {part.install}"
        assert said in lines


def test_tensorrts_install_line_names_nvidias_index(printed, installed):
    installed |= dict.fromkeys(("tensorrt", "tensorrt-cu13", "tensorrt-cu12"))
    (line,) = (
        printed_line
        for printed_line in printed("doctor").splitlines()
        if "tensorrt missing" in printed_line
    )
    assert line.endswith(
        "pip install 'numprune-export[trt]' --extra-index-url https://pypi.nvidia.com"
    )


def test_every_target_is_listed(printed):
    out = printed("doctor")
    assert all(f"\n{name} " in out for name in targets.names())


def test_without_a_gpu_it_says_so(printed, monkeypatch):
    monkeypatch.setattr(gpu, "read", lambda: None)
    out = printed("doctor")
    assert "no NVIDIA GPU with a working driver is visible" in out
    assert "built without CUDA" not in out


def test_a_gpu_is_named_with_driver_cuda_and_free_memory(printed, monkeypatch):
    monkeypatch.setattr(gpu, "read", lambda: replace(QUIET, persistence=False))
    out = printed("doctor")
    assert "NVIDIA H100 80GB HBM3, compute capability 9.0" in out
    assert "driver 580.159.04, supports CUDA up to 13.0" in out
    assert "78.6 of 79.6 GiB of its memory free" in out
    assert f"PyTorch can use it: {'yes' if torch.cuda.is_available() else 'no'}" in out
    assert "persistence mode is off" in out


def test_two_onnx_runtimes_are_a_conflict(printed, installed, monkeypatch):
    monkeypatch.setattr(gpu, "read", lambda: None)
    installed |= {"onnxruntime": "1.31.1", "onnxruntime-gpu": None}
    assert "to put right" not in printed("doctor")
    installed["onnxruntime-gpu"] = "1.31.1"
    out = printed("doctor")
    assert "to put right:\n  onnxruntime and onnxruntime-gpu overwrite each other" in out


def test_a_pytorch_without_cuda_beside_a_gpu_is_said(printed, monkeypatch):
    monkeypatch.setattr(gpu, "read", lambda: QUIET)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "this PyTorch is built without CUDA: pip install" in printed("doctor")


@pytest.mark.parametrize(("driver", "conflict"), [("12.8", True), ("13.0", False), (None, False)])
def test_bindings_that_are_newer_than_the_driver_are_said(
    driver, conflict, printed, installed, monkeypatch
):
    monkeypatch.setattr(gpu, "read", lambda: replace(QUIET, cuda_version=driver))
    installed["cuda-bindings"] = "13.5.0"
    out = printed("doctor")
    assert ("needs a newer driver" in out) is conflict
    assert ("pip install 'cuda-bindings==12.*'" in out) is conflict
