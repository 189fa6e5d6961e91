"""The fresh process of a reload proof: load a checkpoint in both ways and write its logits.

python -m numprune_export.models.checkpoint.reload_probe EXCHANGE_FOLDER
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from numprune_export.models.checkpoint.classes import auto_class
from numprune_export.models.checkpoint.load import load
from numprune_export.models.checkpoint.quiet import quiet
from numprune_export.models.families import family_of

STEP = "numprune-export: a step of the proof"
"""Line on stdout after each model is loaded, and after each has run."""

ALIGNMENT = 64
"""Bytes; alignment of PyTorch's CPU allocator."""


def by_transformers(folder: Path) -> Any:
    """Load as a user without this package does; code from the folder is run only if needed."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with quiet():
        model = auto_class(config["architectures"][0]).from_pretrained(
            folder, dtype="auto", trust_remote_code="auto_map" in config
        )
    return model.eval()


def loaders(architecture: str) -> dict[str, Callable[[Path], Any]]:
    """Both ways to load a model of this class, by the name used in messages."""
    return {
        "numprune_export.load": load,
        auto_class(architecture).__name__: by_transformers,
    }


def logits_of(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits on the CPU, (batch, ...); of a span head (batch, length, 2).

    The weights are moved to aligned memory first: the summation order of a matrix-vector product
    depends on the alignment of its operands, and tensors in a mapped file are not aligned.

    Args:
        inputs: `tokens` (batch, length); `real`, `types` as in Family.inputs, or absent.
    """
    _align(model)
    placed = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    tokens = placed["tokens"]
    real = placed.get("real", torch.ones_like(tokens, dtype=torch.bool))
    family = family_of(model.config.model_type, None)
    with torch.inference_mode():
        output = model(**family.inputs(tokens, real, placed.get("types")))
    logits: Tensor = (
        torch.stack([output.start_logits, output.end_logits], -1)
        if "start_logits" in output
        else output.logits
    )
    return logits.cpu().contiguous()


def _align(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.data_ptr() % ALIGNMENT or not parameter.is_contiguous():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


def _run(
    loader: Callable[[Path], Any], folder: Path, device: str, inputs: Mapping[str, Tensor]
) -> Tensor:
    model = loader(folder).to(device)
    print(STEP, flush=True)  # noqa: T201  (read by the parent process)
    logits = logits_of(model, inputs)
    print(STEP, flush=True)  # noqa: T201
    return logits


def main(exchange: Path) -> None:
    request = json.loads((exchange / "request.json").read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    inputs, folder = load_file(exchange / "given.safetensors"), Path(request["folder"])
    # One model at a time: two would double the memory.
    logits = {
        name: _run(loader, folder, request["device"], inputs)
        for name, loader in loaders(request["architecture"]).items()
    }
    save_file(logits, exchange / "logits.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
