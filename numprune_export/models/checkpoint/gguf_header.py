"""Parser of a GGUF header: metadata and tensor names.

It does not need the `gguf` package: unsupported architectures are rejected without it. Format:
github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from numprune_export.core.errors import InputError

Scalar = str | int | float | bool

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_DEEPEST = 8
"""Maximum nesting of arrays. The format has no limit; known models do not nest arrays."""


@dataclass(frozen=True)
class GgufHeader:
    metadata: dict[str, Scalar]
    """Scalars and strings; arrays, such as the vocabulary, are omitted."""
    tensors: tuple[str, ...]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def integer(self, key: str, default: int) -> int:
        """An integer of the metadata, or the default if the key is absent.

        Raises:
            ValueError: the value is not an integer.
        """
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"`{key}` is `{value}`, not an integer")
        return value


def read_header(path: Path) -> GgufHeader:
    """Read the metadata and tensor names of a GGUF file, without tensor data.

    Raises:
        InputError: the file is not GGUF version 2 or 3, or it ends inside the header.
    """
    try:
        with path.open("rb") as file:
            return _header(file)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(
            f"`{path}` is not a readable GGUF file: {error}", hint="download the file again"
        ) from None


def _header(file: BinaryIO) -> GgufHeader:
    if file.read(4) != b"GGUF":
        raise ValueError("it does not start with the GGUF magic bytes")
    version = _integer(file, "<I")
    if version not in (2, 3):
        raise ValueError(f"version {version} is not supported")
    tensor_count, pairs = _integer(file, "<Q"), _integer(file, "<Q")
    metadata: dict[str, Scalar] = {}
    for _ in range(pairs):
        key = _string(file)
        value = _value(file, _integer(file, "<I"))
        if key in metadata:
            raise ValueError(f"the key `{key}` is duplicated")
        if value is not None:
            metadata[key] = value
    return GgufHeader(metadata, _tensor_names(file, tensor_count))


def _tensor_names(file: BinaryIO, count: int) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for _ in range(count):
        name = _string(file)
        if name in names:
            raise ValueError(f"the tensor `{name}` is duplicated")
        names[name] = None
        _read(file, 8 * _integer(file, "<I") + 4 + 8)  # dimensions, type, offset
    return tuple(names)


def _value(file: BinaryIO, kind: int, depth: int = 0) -> Scalar | None:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _number(file, _layout(kind))
    if depth == _DEEPEST:
        raise ValueError(f"arrays are nested more than {_DEEPEST} deep")
    item, count = _integer(file, "<I"), _integer(file, "<Q")
    if item in _SCALARS:
        _skip(file, count * struct.calcsize(_SCALARS[item]))
        return None
    for _ in range(count):
        _value(file, item, depth + 1)
    return None


def _layout(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"the value type {kind} is unknown")
    return _SCALARS[kind]


def _skip(file: BinaryIO, size: int) -> None:
    """Skip values, checking the file size: seeking past the end raises no error."""
    if size > os.fstat(file.fileno()).st_size - file.tell():
        raise EOFError("it ends inside an array")
    file.seek(size, 1)


def _string(file: BinaryIO) -> str:
    return _read(file, _integer(file, "<Q")).decode()


def _integer(file: BinaryIO, layout: str) -> int:
    return int(_number(file, layout))


def _number(file: BinaryIO, layout: str) -> int | float | bool:
    value: int | float | bool = struct.unpack(layout, _read(file, struct.calcsize(layout)))[0]
    return value


def _read(file: BinaryIO, size: int) -> bytes:
    if size > 1 << 24:  # 16 MiB: longer than any real name or text
        raise EOFError("a length in the header is not plausible")
    content = file.read(size)
    if len(content) < size:
        raise EOFError("it ends inside the header")
    return content
