"""Hardware and software of a measurement, without host names, user names or paths."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from numprune_export.core.plugins import installed_version
from numprune_export.core.settings import Strict
from numprune_export.measure.gpu import read as gpu

if TYPE_CHECKING:  # a report is read without numpy and torch
    from pathlib import Path


PACKAGES = (
    "numprune-export",
    "torch",
    "transformers",
    "safetensors",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-lean",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "cuda-bindings",
    "nvidia-cuda-runtime",
    "nvidia-cudnn-cu13",
    "gguf",
)
"""Packages that a measurement can depend on; those not installed are left out."""

_CPU_INFO = Path("/proc/cpuinfo")


def describe() -> Environment:
    """Describe this machine. Imports torch to read its thread count and its GPUs."""
    import torch

    return Environment(
        machine=platform.machine(),
        cpu=cpu_model(),
        physical_cores=psutil.cpu_count(logical=False),
        usable_cores=_usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=package_versions(),
        threads=torch.get_num_threads(),
        gpus=tuple(_gpus()),
    )


def package_versions() -> dict[str, str]:
    installed = {name: installed_version(name) for name in PACKAGES}
    return {name: version for name, version in installed.items() if version is not None}


def cpu_model() -> str:
    """The processor's model name, or the instruction set if the system does not report it."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[Gpu]:
    import torch

    state = gpu.read()
    driver = None if state is None else state.driver_version
    cuda = None if state is None else state.cuda_version
    if torch.cuda.is_available():
        cards = [
            torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())
        ]
        return [
            Gpu(
                name=card.name,
                memory_bytes=card.total_memory,
                compute_capability=f"{card.major}.{card.minor}",
                driver_version=driver,
                cuda_version=cuda,
            )
            for card in cards
        ]
    if state is None or state.memory_total_bytes is None or state.compute_capability is None:
        return []
    # PyTorch may lack CUDA where other runtimes have it.
    return [
        Gpu(
            name=state.name,
            memory_bytes=state.memory_total_bytes,
            compute_capability=state.compute_capability,
            driver_version=driver,
            cuda_version=cuda,
        )
    ]


class Gpu(Strict):
    name: str
    memory_bytes: int
    compute_capability: str
    driver_version: str | None = None
    cuda_version: str | None = None
    """Newest CUDA version that the driver supports; installed runtimes are listed in `packages`."""


class Environment(Strict):
    """Hardware and software, without anything that identifies the owner."""

    machine: str
    """Instruction set, for example `x86_64`."""
    cpu: str
    physical_cores: int | None
    usable_cores: int
    """Logical cores that this process may run on."""
    memory_bytes: int
    system: str
    python: str
    packages: dict[str, str]
    threads: int | None = None
    """Of PyTorch. A benchmark records its thread count in its metrics."""
    gpus: tuple[Gpu, ...] = ()
