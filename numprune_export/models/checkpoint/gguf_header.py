"""What a GGUF file says about itself before its tensors: the metadata and the tensor names.

Written here because a file of the wrong architecture must be refused by name even where the
`gguf` package is not installed. Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3.
"""

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


@dataclass(frozen=True)
class GgufHeader:
    metadata: dict[str, Scalar]
    """Scalars and strings; arrays (the vocabulary, mostly) are left out."""
    tensors: tuple[str, ...]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))


def read_header(path: Path) -> GgufHeader:
    """Read the metadata and tensor names of a GGUF file; no tensor data.

    Raises:
        InputError: the file is not GGUF version 2 or 3, or it ends inside the header.
    """
    try:
        with path.open("rb") as file:
            return _header(file)
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise InputError(
            f"`{path}` is not a readable GGUF file: {error}", hint="download the file again"
        ) from None


def _header(file: BinaryIO) -> GgufHeader:
    if file.read(4) != b"GGUF":
        raise ValueError("it does not start with the GGUF magic bytes")
    version = _number(file, "<I")
    if version not in (2, 3):
        raise ValueError(f"version {version} is not known")
    tensor_count, pairs = _number(file, "<Q"), _number(file, "<Q")
    metadata = {}
    for _ in range(int(pairs)):
        key = _string(file)
        value = _value(file, int(_number(file, "<I")))
        if value is not None:
            metadata[key] = value
    names = []
    for _ in range(int(tensor_count)):
        names.append(_string(file))
        _read(file, 8 * int(_number(file, "<I")) + 4 + 8)  # dimensions, type, offset
    return GgufHeader(metadata, tuple(names))


def _value(file: BinaryIO, kind: int) -> Scalar | None:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _number(file, _SCALARS[kind])
    item, count = int(_number(file, "<I")), int(_number(file, "<Q"))
    if item in _SCALARS:
        file.seek(count * struct.calcsize(_SCALARS[item]), 1)
        return None
    for _ in range(count):
        _value(file, item)
    return None


def _string(file: BinaryIO) -> str:
    return _read(file, int(_number(file, "<Q"))).decode()


def _number(file: BinaryIO, layout: str) -> int | float | bool:
    value: int | float | bool = struct.unpack(layout, _read(file, struct.calcsize(layout)))[0]
    return value


def _read(file: BinaryIO, size: int) -> bytes:
    if size > 1 << 24:  # no name or text in a header is this long: the length itself is damaged
        raise EOFError("a length in the header is not plausible")
    content = file.read(size)
    if len(content) < size:
        raise EOFError("it ends inside the header")
    return content
