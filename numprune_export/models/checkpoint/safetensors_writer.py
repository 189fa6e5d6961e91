"""Writing of a safetensors file whose sha256 is known when it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from numprune_export.core.errors import OutputError

_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""In the order in which the library writes them."""
ALIGNMENT = 8
"""The header is filled up with spaces to a multiple of so many bytes."""


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the file that `safetensors.torch.save_file` writes, byte by byte, and return its hex
    sha256, which is computed on the way: a large file is not read again.

    Args:
        path: The file.
        tensors: Floating-point tensors by name, on any device; each is copied to the CPU when it is
            written.

    Raises:
        OutputError: a tensor has another dtype.
        OSError: the file cannot be written.
    """
    unknown = next((name for name in tensors if tensors[name].dtype not in _NAMES), None)
    if unknown is not None:
        raise OutputError(
            f"`{unknown}` has dtype `{tensors[unknown].dtype}`, which is not written",
            hint="prune the model in `dtype: float32`",
        )
    places = {dtype: place for place, dtype in enumerate(_NAMES)}
    ordered = sorted(tensors.items(), key=lambda entry: (places[entry[1].dtype], entry[0]))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _pieces(ordered):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _pieces(tensors: list[tuple[str, Tensor]]) -> Iterator[bytes | memoryview]:
    yield _header(tensors)
    for _, tensor in tensors:
        whole: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield memoryview(whole)


def _header(tensors: list[tuple[str, Tensor]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
