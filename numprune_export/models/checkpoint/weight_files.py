"""The weight files of a Hugging Face folder, checked for completeness."""

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from numprune_export.core.errors import InputError
from numprune_export.core.file_kind import stand_in, stand_in_at
from numprune_export.core.foreign import blamed_on_input
from numprune_export.core.json_text import loads
from numprune_export.core.paths import exists
from numprune_export.core.text_file import read
from numprune_export.models.checkpoint.safetensors_header import (
    Tensor,
    read_header,
    require_one_layout,
)
from numprune_export.models.checkpoint.unusable_folder import no_config, no_weights

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Names in recipes of dtypes in safetensors headers."""
_INDEXED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The weight files that transformers reads, safetensors before legacy `.bin`.

    Safetensors headers and file lengths are checked; tensors are not read.

    Raises:
        InputError: there are no weights, a shard is missing, or a file is truncated or corrupt.
    """
    for single, indexed in zip(_SINGLE, _INDEXED, strict=True):
        if (folder / single).is_file():
            return _checked((folder / single,))
        if (folder / indexed).is_file():
            return _checked(_shards(folder / indexed))
    raise no_weights(folder, _INDEXED)


def tensor_shapes(files: tuple[Path, ...]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by name, from safetensors headers; `.bin` files are skipped."""
    return {name: tensor.shape for name, tensor in _headers(files).items()}


def tensor_count(folder: Path) -> int | None:
    """Number of tensors in the weights of a folder, from headers or indices; None if unknown.

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


def stored_dtype(files: tuple[Path, ...]) -> str:
    """The floating-point type of most weights, as a recipe spells it; `float32` if no safetensors
    header tells, as for GGUF and `.bin` files, or if it is another type."""
    counts: Counter[str] = Counter()
    for tensor in _headers(files).values():
        counts[_DTYPES.get(tensor.dtype, "float32")] += prod(tensor.shape)
    return counts.most_common(1)[0][0] if counts else "float32"


def tensor_places(folder: Path) -> dict[str, Path]:
    """The safetensors file of every tensor of a folder, by name.

    Raises:
        InputError: as `weight_files`.
    """
    files = weight_files(folder)
    return {name: path for path in files for name in _headers((path,))}


def _headers(files: tuple[Path, ...]) -> dict[str, Tensor]:
    headers: dict[str, Tensor] = {}
    for path in files:
        if path.suffix != ".safetensors":
            continue
        header = read_header(path)
        twice = sorted(headers.keys() & header.keys())
        if twice:
            raise InputError(
                f"`{path}` contains `{twice[0]}`, which another shard contains too",
                hint="download the model again: files of two checkpoints are mixed",
            )
        headers |= header
    return headers


def read_json(path: Path, *, unique: bool = False) -> dict[str, Any]:
    """Read a JSON object from a file.

    Args:
        unique: Reject objects with duplicate keys, which readers resolve differently.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    if not exists(path):
        raise (
            no_config(path.parent)
            if path.name == "config.json"
            else InputError(
                f"`{path.parent}` has no `{path.name}`",
                hint="give a folder in Hugging Face format, or a `.gguf` file",
            )
        )
    text = read(path)
    kind = stand_in(text[:128].encode())
    if kind is not None:
        raise InputError(f"`{path}` is {kind.name}", hint=kind.hint)
    try:
        content = loads(text, unique=unique)
    except ValueError as error:
        raise InputError(
            f"`{path}` is not readable JSON: {error}", hint="fix it, or download the file again"
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
                hint="do not use this checkpoint: a shard must be in the folder of its index",
            )
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"`{index.parent / missing[0]}` is missing: the index names it"
            f" ({len(missing)} of {len(shards)} shards are missing)",
            hint="download the missing shards",
        )
    return tuple(index.parent / name for name in shards)


def _checked(files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Check the headers, which detects truncated files."""
    for path in files:
        kind = stand_in_at(path)
        if kind is not None:
            raise InputError(f"`{path}` is {kind.name}", hint=kind.hint)
    require_one_layout(_headers(files), files[0].parent)
    for path in files:
        # Files of PyTorch before 1.6 are not zip archives: they are rejected.
        if path.suffix != ".safetensors":
            with blamed_on_input(
                f"`{path}` is truncated or corrupt", hint="download the file again"
            ):
                ZipFile(path).close()
    return files
