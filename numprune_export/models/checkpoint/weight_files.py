"""Which files hold the weights of a Hugging Face folder, and whether each one is whole."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from numprune_export.core.errors import InputError
from numprune_export.core.foreign import blamed_on_input, first_line
from numprune_export.models.checkpoint.safetensors_header import (
    Tensor,
    read_header,
    require_one_layout,
)

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEXED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The weight files that transformers would read, safetensors before legacy `.bin`.

    Safetensors headers and file lengths are checked; tensors are not read.

    Raises:
        InputError: no weights, a missing shard, or a truncated or corrupt file.
    """
    for single, indexed in zip(_SINGLE, _INDEXED, strict=True):
        if (folder / single).is_file():
            return _checked((folder / single,))
        if (folder / indexed).is_file():
            return _checked(_shards(folder / indexed))
    raise InputError(
        f"`{folder}` holds no weights: neither {' nor '.join(f'`{name}`' for name in _SINGLE)}",
        hint="download the model again; weights must be safetensors, GGUF or legacy `.bin` files",
    )


def tensor_shapes(files: tuple[Path, ...]) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor, from safetensors headers; legacy `.bin` files have none."""
    return {name: tensor.shape for name, tensor in _headers(files).items()}


def tensor_count(folder: Path) -> int | None:
    """How many tensors the weights of a folder have, as far as headers and indices say; else None.

    Raises:
        InputError: a header or an index is damaged.
    """
    for single, indexed in zip(_SINGLE, _INDEXED, strict=True):
        if (folder / single).is_file():
            safetensors = single.endswith(".safetensors")
            return len(read_header(folder / single)) if safetensors else None
        if (folder / indexed).is_file():
            return len(_weight_map(folder / indexed))
    return None


def _headers(files: tuple[Path, ...]) -> dict[str, Tensor]:
    headers: dict[str, Tensor] = {}
    for path in files:
        if path.suffix != ".safetensors":
            continue
        header = read_header(path)
        twice = sorted(headers.keys() & header.keys())
        if twice:
            raise InputError(
                f"`{path}` holds `{twice[0]}`, which another shard holds too",
                hint="download the model again: files of two checkpoints are mixed",
            )
        headers |= header
    return headers


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: it is missing, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"`{path.parent}` has no `{path.name}`",
            hint="give a folder in Hugging Face format, or a `.gguf` file",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"`{path}` is not readable JSON: {first_line(error)}", hint="download the file again"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"`{path}` is not a JSON object", hint="download the file again")
    return content


def _weight_map(index: Path) -> dict[str, Any]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise InputError(f"`{index}` has no `weight_map`", hint="download the file again")
    return names


def _shards(index: Path) -> tuple[Path, ...]:
    shards = sorted({str(name) for name in _weight_map(index).values()})
    for name in shards:
        if Path(name).name != name:
            raise InputError(
                f"`{index}` names `{name}`, which is outside its folder",
                hint="do not use this checkpoint: a shard must lie beside its index",
            )
        if not (index.parent / name).is_file():
            raise InputError(
                f"`{index.parent / name}` is missing: the index names it",
                hint="download the missing shard",
            )
    return tuple(index.parent / name for name in shards)


def _checked(files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Read the tables of contents, which fails if a file is not as long as its own says."""
    require_one_layout(_headers(files), files[0].parent)
    for path in files:
        if path.suffix != ".safetensors":  # PyTorch before 1.6 wrote no zip archives: refused
            with blamed_on_input(
                f"`{path}` is truncated or corrupt", hint="download the file again"
            ):
                ZipFile(path).close()
    return files
