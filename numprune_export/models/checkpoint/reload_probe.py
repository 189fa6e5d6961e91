"""The fresh process of a proof: load a checkpoint in both ways and write down its logits.

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
"""A line on stdout each time a model is loaded, and each time it has run."""

ALIGNMENT = 64
"""Bytes; what PyTorch's own CPU memory is aligned to."""


def by_transformers(folder: Path) -> Any:
    """As a user without this package: code from the folder only where it cannot do without."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with quiet():
        model = auto_class(config["architectures"][0]).from_pretrained(
            folder, dtype="auto", trust_remote_code="auto_map" in config
        )
    return model.eval()


def loaders(architecture: str) -> dict[str, Callable[[Path], Any]]:
    """Both ways to load a model of this class, by the names that a message calls them."""
    return {
        "numprune_export.load": load,
        auto_class(architecture).__name__: by_transformers,
    }


def logits_of(model: Any, given: Mapping[str, Tensor]) -> Tensor:
    """What the model says, on the CPU: (batch, …) logits; of a span (batch, length, 2).

    Its weights are moved to aligned memory first: a matrix-vector product sums in an order that
    depends on where its operands begin, and a mapped file begins anywhere.

    Args:
        given: `tokens` (batch, length); `real`, `types` as in Family.inputs, or absent.
    """
    _align(model)
    placed = {name: tensor.to(model.device) for name, tensor in given.items()}
    tokens = placed["tokens"]
    real = placed.get("real", torch.ones_like(tokens, dtype=torch.bool))
    family = family_of(model.config.model_type, None)
    with torch.inference_mode():
        answer = model(**family.inputs(tokens, real, placed.get("types")))
    found: Tensor = (
        torch.stack([answer.start_logits, answer.end_logits], -1)
        if "start_logits" in answer
        else answer.logits
    )
    return found.cpu().contiguous()


def _align(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.data_ptr() % ALIGNMENT or not parameter.is_contiguous():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


def _answer(
    loader: Callable[[Path], Any], folder: Path, device: str, given: Mapping[str, Tensor]
) -> Tensor:
    model = loader(folder).to(device)
    print(STEP, flush=True)  # noqa: T201  (to the process that waits)
    found = logits_of(model, given)
    print(STEP, flush=True)  # noqa: T201
    return found


def main(exchange: Path) -> None:
    request = json.loads((exchange / "request.json").read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    given, folder = load_file(exchange / "given.safetensors"), Path(request["folder"])
    # One model at a time: two would double the memory that a proof needs.
    logits = {
        name: _answer(loader, folder, request["device"], given)
        for name, loader in loaders(request["architecture"]).items()
    }
    save_file(logits, exchange / "logits.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
