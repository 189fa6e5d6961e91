"""Reading of a model's checkpoint block by block."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from numprune_export.core.errors import NumericalError
from numprune_export.core.foreign import blamed_on_input
from numprune_export.models.checkpoint.folder import folder_skeleton
from numprune_export.models.checkpoint.quiet import quiet
from numprune_export.models.checkpoint.source import Source
from numprune_export.models.checkpoint.tensor_check import expect
from numprune_export.models.checkpoint.weight_files import tensor_places
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.families import family_of
from numprune_export.models.residency import copy_of_block, source_of, stream


def streamable(source: Source) -> bool:
    """Whether a checkpoint can be read block by block: a decoder in safetensors whose tensors have
    the names of the model's, or in GGUF, which is de-quantised to safetensors once."""
    if source.kind == "gguf":
        return isinstance(source.family, RotaryDecoder)
    formats = {path.suffix for path in source.weights}
    if formats != {".safetensors"}:
        return False
    if not isinstance(source.family, RotaryDecoder):
        return False
    with quiet():
        names = set(folder_skeleton(source.path).state_dict())
    return tensor_places(source.path).keys() <= names


def read_streamed(folder: Path, dtype: torch.dtype | None, device: torch.device) -> PreTrainedModel:
    """A streamed model in eval mode: embedding, final norm and head are read, blocks are not.

    Args:
        folder: A folder that is `streamable`, dense or pruned.
        dtype: Floating-point type of the weights; None: as saved.
        device: Of the tensors, also those of a block while it is in use.

    Raises:
        InputError: a tensor is missing or of the wrong shape.
        NumericalError: a weight is NaN or infinite; also raised where a block is read.
    """
    with quiet():
        model = folder_skeleton(folder)
    expect(folder, model)
    family = family_of(model.config.model_type, None)
    assert isinstance(family, RotaryDecoder), family
    reader = _Reader(folder, dtype, device)
    rest = [name for name in reader.places if not name.startswith(f"{family.blocks}.")]
    _fill(model, reader.read(rest))
    if f"{family.head}.weight" not in reader.places:
        model.tie_weights()
    rotary: Any = model.get_submodule(family.rotary)
    model.set_submodule(family.rotary, type(rotary)(config=model.config).to(device))
    model.requires_grad_(False)
    stream(model, _Blocks(reader, family.block_list(model), family.blocks))
    return model.eval()


def read_blocks(folder: Path, dtype: torch.dtype | None, device: torch.device) -> PreTrainedModel:
    """A model in eval mode with all of its blocks, read one after the other to the device.

    Args:
        folder: As in `read_streamed`, as are the others.

    Raises:
        InputError: a tensor is missing or of the wrong shape.
        NumericalError: a weight is NaN or infinite.
    """
    model = read_streamed(folder, dtype, device)
    family, source = family_of(model.config.model_type, None), source_of(model)
    assert source is not None
    for index in range(len(family.block_list(model))):
        model.set_submodule(f"{family.blocks}.{index}", source.block(index))
    stream(model, None)
    return model


class _Reader:
    """Reads tensors of a folder by name; each is checked when it is first read."""

    def __init__(self, folder: Path, dtype: torch.dtype | None, device: torch.device) -> None:
        self.places = tensor_places(folder)
        self._folder, self._dtype, self._device = folder, dtype, device
        self._checked: set[str] = set()

    def read(self, names: Collection[str]) -> dict[str, Tensor]:
        """These tensors, by name, in memory of their own."""
        tensors: dict[str, Tensor] = {}
        for path in sorted({self.places[name] for name in names}):
            here = [name for name in names if self.places[name] == path]
            with (
                blamed_on_input(f"`{path}` cannot be read", hint="download the file again"),
                safe_open(path, framework="pt") as file,
            ):
                # A copy: what is read from a mapped file is not aligned, and stays mapped.
                tensors |= {name: self._moved(file.get_tensor(name)) for name in here}
        for name in tensors.keys() - self._checked:
            self._require_finite(name, tensors[name])
        return tensors

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, self._dtype or tensor.dtype, copy=True)

    def _require_finite(self, name: str, tensor: Tensor) -> None:
        low, high = torch.aminmax(tensor)
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            raise NumericalError(
                f"`{name}` in `{self._folder}` contains NaN or infinity in {tensor.dtype}",
                hint="use a checkpoint with finite weights, or a dtype with a wider range",
            )
        self._checked.add(name)


class _Blocks:
    """See BlockSource: blocks of a checkpoint."""

    def __init__(self, reader: _Reader, skeletons: list[nn.Module], path: str) -> None:
        self._reader, self._path = reader, path
        self._skeletons = [copy_of_block(block) for block in skeletons]
        self._names: list[list[str]] = [[] for _ in skeletons]
        for name in reader.places:
            if name.startswith(f"{path}."):
                self._names[int(name[len(path) + 1 :].partition(".")[0])].append(name)

    def block(self, index: int) -> nn.Module:
        """See BlockSource.block."""
        block, prefix = copy_of_block(self._skeletons[index]), f"{self._path}.{index}."
        tensors = self._reader.read(self._names[index])
        _fill(block, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
        return block.requires_grad_(False).eval()

    def weight(self, index: int, path: str) -> Tensor:
        """See BlockSource.weight."""
        name = f"{self._path}.{index}.{path}.weight"
        return self._reader.read([name])[name]


def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into a module whose own are on `meta`, without a copy."""
    module.load_state_dict(tensors, strict=False, assign=True)
