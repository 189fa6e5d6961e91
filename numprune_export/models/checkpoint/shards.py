"""Weights of a pruned model written block by block, a safetensors file each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from numprune_export.core.errors import OutputError
from numprune_export.core.stage_record import put_whole
from numprune_export.models.checkpoint.safetensors_writer import write_safetensors

INDEX = "model.safetensors.index.json"


class BlockShards:
    """Shards of a checkpoint: the blocks in any order, then everything else."""

    def __init__(self, folder: Path, blocks: int, path: str) -> None:
        """
        Args:
            folder: The folder of the checkpoint.
            blocks: Number of blocks.
            path: Path of the list of blocks in the model.
        """
        self._folder, self._blocks, self._path = folder, blocks, path
        self._places: dict[str, str] = {}
        self._bytes = 0
        self.hashes: dict[str, str] = {}
        """sha256 of each file that was written, by name; not of those of an interrupted run."""

    def add(self, block: nn.Module, index: int) -> None:
        """Write a block.

        Raises:
            OutputError: the folder cannot be written.
        """
        prefix = self._prefix(index)
        self._write({prefix + name: value for name, value in block.state_dict().items()}, index + 2)

    def read(self, index: int) -> dict[str, Tensor] | None:
        """The tensors of a block that an interrupted run has written, by name in the block; None if
        it has not."""
        place = self._folder / self._name(index + 2)
        if not place.is_file():
            return None
        tensors, prefix = load_file(place), self._prefix(index)
        self._places |= dict.fromkeys(tensors, place.name)
        self._bytes += sum(value.nbytes for value in tensors.values())
        return {name.removeprefix(prefix): value for name, value in tensors.items()}

    def close(self, state: Mapping[str, Tensor]) -> None:
        """Write all tensors of a model outside of its blocks, and the index.

        Args:
            state: Tensors by name; those of blocks are on `meta`.
        """
        rest = {name: value for name, value in state.items() if name not in self._places}
        self._write(rest, 1)
        index = {
            "metadata": {"total_size": self._bytes},
            "weight_map": {name: self._places[name] for name in sorted(self._places)},
        }
        text = json.dumps(index, indent=2) + "\n"
        (self._folder / INDEX).write_text(text, encoding="utf-8")

    def _write(self, tensors: Mapping[str, Tensor], number: int) -> None:
        name = self._name(number)
        with writing(self._folder):
            partial = self._folder / f".{name}.partial"
            self.hashes[name] = write_safetensors(partial, tensors)
            put_whole(partial, self._folder / name)
        self._places |= dict.fromkeys(tensors, name)
        self._bytes += sum(value.nbytes for value in tensors.values())

    def _name(self, number: int) -> str:
        return f"model-{number:05d}-of-{self._blocks + 1:05d}.safetensors"

    def _prefix(self, index: int) -> str:
        return f"{self._path}.{index}."


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Report a folder that cannot be written.

    Raises:
        OutputError: an operating system error inside the `with`.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"`{folder}` could not be written: {error}",
            hint="check free space and permissions, or choose another output folder",
        ) from error
