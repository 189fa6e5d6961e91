"""The fresh process of a proof: load a checkpoint in both ways and write down its logits.

python -m numprune_export.checkpoint.reload_probe EXCHANGE_FOLDER
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from numprune_export.checkpoint.load import load
from numprune_export.checkpoint.quiet import quiet


def by_transformers(folder: Path) -> Any:
    """As a user without this package: code from the folder only where it cannot do without."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", trust_remote_code="auto_map" in config
        )
    return model.eval()


LOADERS: dict[str, Callable[[Path], Any]] = {
    "numprune_export.load": load,
    "AutoModelForCausalLM": by_transformers,
}


def main(exchange: Path) -> None:
    request = json.loads((exchange / "request.json").read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    tokens = load_file(exchange / "tokens.safetensors")["tokens"].to(request["device"])
    folder = Path(request["folder"])
    # One model at a time: two would double the memory that a proof needs.
    logits = {name: _logits(loader, folder, tokens) for name, loader in LOADERS.items()}
    save_file(logits, exchange / "logits.safetensors")


def _logits(loader: Callable[[Path], Any], folder: Path, tokens: Tensor) -> Tensor:
    model = loader(folder).to(tokens.device)
    with torch.inference_mode():
        logits: Tensor = model(tokens, use_cache=False).logits
    return logits.cpu().contiguous()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
