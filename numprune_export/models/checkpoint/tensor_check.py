"""Check that the tensors of a checkpoint are exactly those of its configuration.

transformers fills missing tensors with random numbers, drops unexpected tensors, and re-initialises
tensors of the wrong shape. Each changes the network, so each is an error here.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from numprune_export.core.errors import InputError
from numprune_export.models.checkpoint.weight_files import tensor_shapes, weight_files

_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Parameter names of the original BERT, which transformers converts."""
_UNUSED = re.compile(r"(bert|roberta)\.pooler\.dense\.(weight|bias)")
"""Part of many published token-classification and question-answering checkpoints, unused there."""
_PRETRAINING = {
    "bert": re.compile(r"cls\.(predictions|seq_relationship)\..+"),
    "roberta": re.compile(r"lm_head\..+"),
    "distilbert": re.compile(r"vocab_(transform|layer_norm|projector)\..+"),
}
"""By model type: tensors of the pre-training head, unused by classes with a task head."""


def expect(folder: Path, built: nn.Module) -> None:
    """Compare safetensors headers with a model built on `meta`, before any tensor is read.

    A wrong configuration may otherwise allocate too much memory. A tied head has no tensor of its
    own, so absent tensors with tied names are left to `matching`.

    Raises:
        InputError: a tensor is missing or of the wrong shape; the message names the first.
    """
    stored = {
        _current_name(name): shape for name, shape in tensor_shapes(weight_files(folder)).items()
    }
    if not stored:
        return
    wanted = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    tied = set(getattr(built, "all_tied_weights_keys", {}))
    _refuse(folder, "missing", wanted.keys() - stored.keys() - tied)
    mismatched = (n for n in wanted.keys() & stored.keys() if wanted[n] != stored[n])
    _refuse(folder, "mismatched", mismatched)


def matching(path: Path, model: PreTrainedModel, info: dict[str, Any]) -> PreTrainedModel:
    """Return the model if the tensors of `path` match its configuration.

    Args:
        info: The second result of `from_pretrained(..., output_loading_info=True)`.

    Raises:
        InputError: a tensor is missing, unexpected or of the wrong shape; the first is named.
    """
    for problem in ("missing", "unexpected", "mismatched"):
        # Mismatched tensors are listed with two shapes, the others by name.
        keys = info[f"{problem}_keys"]
        names = [key if isinstance(key, str) else str(key[0]) for key in keys]
        if problem == "unexpected":
            ignored = set(_leftovers(names, model.config.model_type))
            names = [name for name in names if not _UNUSED.fullmatch(name) and name not in ignored]
        _refuse(path, problem, names)
    return model


def leftovers(files: tuple[Path, ...], model_type: str) -> list[str]:
    """Tensors of a pre-training head, which a model with a task head does not load.

    Args:
        files: The loaded weight files.
        model_type: Of the configuration.
    """
    names = list(tensor_shapes(files))
    for path in files:
        if path.suffix == ".bin":
            names += torch.load(path, map_location="meta", mmap=True, weights_only=True)
    return _leftovers(names, model_type)


def _leftovers(names: Iterable[str], model_type: str) -> list[str]:
    pattern = _PRETRAINING.get(model_type)
    return sorted(name for name in names if pattern is not None and pattern.fullmatch(name))


def _current_name(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _refuse(path: Path, problem: str, names: Iterable[str]) -> None:
    ordered = sorted(names)
    if ordered:
        raise InputError(
            f"`{path}` does not match its configuration: {len(ordered)} {problem} tensors,"
            f" the first is `{ordered[0]}`",
            hint="config.json and the weights must come from the same checkpoint",
        )
