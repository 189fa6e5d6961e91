"""Whether the tensors of a checkpoint are exactly those that its configuration asks for.

transformers fills a missing tensor with random numbers, drops one that it does not expect, and
re-initialises one of the wrong shape. Each makes a different network, so each is an error here.
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
"""Of BERT as it was first published; transformers knows them too."""
_UNUSED = re.compile(r"(bert|roberta)\.pooler\.dense\.(weight|bias)")
"""Published with many token taggers and question answerers, whose classes never read it."""
_PRETRAINING = {
    "bert": re.compile(r"cls\.(predictions|seq_relationship)\..+"),
    "roberta": re.compile(r"lm_head\..+"),
    "distilbert": re.compile(r"vocab_(transform|layer_norm|projector)\..+"),
}
"""By model type: tensors of the head of pre-training, which no class with a task head reads."""


def expect(folder: Path, built: nn.Module) -> None:
    """Compare safetensors headers with a model built on `meta`, before any tensor is read.

    Early because a wrong configuration may ask for more memory than there is. A tied head has no
    tensor of its own, so that absent tensors are `matching`'s to judge where a name is tied.

    Raises:
        InputError: a tensor is missing or of the wrong shape; the first one is named.
    """
    found = {_today(name): at for name, at in tensor_shapes(weight_files(folder)).items()}
    if not found:
        return
    wanted = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    tied = set(getattr(built, "all_tied_weights_keys", {}))
    _refuse(folder, "missing", wanted.keys() - found.keys() - tied)
    _refuse(
        folder, "mismatched", (n for n in wanted.keys() & found.keys() if wanted[n] != found[n])
    )


def matching(path: Path, model: PreTrainedModel, info: dict[str, Any]) -> PreTrainedModel:
    """The model, if every tensor of `path` went where its configuration says.

    Args:
        info: What `from_pretrained(..., output_loading_info=True)` returned beside the model.

    Raises:
        InputError: a tensor is missing, unexpected or of the wrong shape; the first one is named.
    """
    for problem in ("missing", "unexpected", "mismatched"):
        # A mismatched tensor is listed with its two shapes, the others by name alone.
        keys = info[f"{problem}_keys"]
        names = [key if isinstance(key, str) else str(key[0]) for key in keys]
        if problem == "unexpected":
            left = set(_leftovers(names, model.config.model_type))
            names = [name for name in names if not _UNUSED.fullmatch(name) and name not in left]
        _refuse(path, problem, names)
    return model


def leftovers(files: tuple[Path, ...], model_type: str) -> list[str]:
    """Tensors of a pre-training head, which are left out when a model with a task head is loaded.

    Args:
        files: Weights that were loaded.
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


def _today(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _refuse(path: Path, problem: str, names: Iterable[str]) -> None:
    found = sorted(names)
    if found:
        raise InputError(
            f"`{path}` does not match its configuration: {len(found)} {problem} tensors,"
            f" the first is `{found[0]}`",
            hint="config.json and the weights must come from the same checkpoint",
        )
