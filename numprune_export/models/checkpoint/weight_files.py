"""Which files hold the weights of a Hugging Face folder, and whether each one is whole."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from safetensors import SafetensorError, safe_open

from numprune_export.core.errors import InputError
from numprune_export.core.file_kind import stand_in, stand_in_at
from numprune_export.core.json_text import loads
from numprune_export.core.paths import exists
from numprune_export.core.text_file import read
from numprune_export.models.checkpoint.unusable_folder import no_config, no_weights

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
    raise no_weights(folder, _INDEXED)


def tensor_shapes(files: tuple[Path, ...]) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor, from safetensors headers; legacy `.bin` files have none."""
    shapes = {}
    for path in files:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as tensors:
                names = tensors.keys()
                shapes.update({name: tuple(tensors.get_slice(name).get_shape()) for name in names})
    return shapes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: it is missing, or is not a JSON object.
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
        content = loads(text)
    except ValueError as error:
        raise InputError(
            f"`{path}` is not readable JSON: {error}", hint="fix it, or download the file again"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"`{path}` is not a JSON object", hint="download the file again")
    return content


def first_line(error: Exception) -> str:
    """The start of a foreign error message, fit to end one of ours."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise InputError(f"`{index}` has no `weight_map`", hint="download the file again")
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        if Path(name).name != name:
            raise InputError(
                f"`{index}` names `{name}`, which is outside its folder",
                hint="do not use this checkpoint: a shard must lie beside its index",
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
    for path in files:
        _check(path)
    return files


def _check(path: Path) -> None:
    """Read the table of contents, which fails if the file is not as long as that says."""
    try:
        kind = stand_in_at(path)
        if kind is not None:
            raise InputError(f"`{path}` is {kind.name}", hint=kind.hint)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as tensors:
                tensors.keys()
        else:  # PyTorch before 1.6 wrote no zip archives: those files are refused
            ZipFile(path).close()
    except (SafetensorError, BadZipFile, OSError) as error:
        raise InputError(
            f"`{path}` is truncated or corrupt: {error}", hint="download the file again"
        ) from None
