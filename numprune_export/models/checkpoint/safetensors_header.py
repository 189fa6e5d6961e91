"""Safetensors headers, and checks for duplicate names and mixed two-byte dtypes.

The library keeps the last of two entries with the same name. It cannot detect that float16 was
stored as bfloat16: both take two bytes. Format: github.com/huggingface/safetensors, README: eight
bytes of length, then JSON, then the tensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from numprune_export.core.errors import InputError
from numprune_export.core.foreign import first_line

_METADATA = "__metadata__"
_TWO_BYTE_FLOATS = ("F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """One entry of a header."""

    shape: tuple[int, ...]
    dtype: str
    """As the format spells it: `F32`, `BF16`."""


def read_header(path: Path) -> dict[str, Tensor]:
    """Read the header entries by name, without tensor data.

    Raises:
        InputError: the file is truncated or corrupt, or an entry is duplicated.
    """
    try:
        # Checks offsets, lengths and dtypes against each other and against the file.
        with safe_open(path, framework="numpy"), path.open("rb") as file:
            content = file.read(int.from_bytes(file.read(8), "little"))
            header = json.loads(content, object_pairs_hook=_unique)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"`{path}` is truncated or corrupt: {first_line(error)}", hint="download the file again"
        ) from None
    header.pop(_METADATA, None)
    return {name: Tensor(tuple(entry["shape"]), entry["dtype"]) for name, entry in header.items()}


def require_one_layout(header: Mapping[str, Tensor], where: Path) -> None:
    """Check that a checkpoint does not mix float16 and bfloat16, which is probably an error.

    Raises:
        InputError: it does; the message names a tensor of each.
    """
    firsts = {tensor.dtype: name for name, tensor in sorted(header.items(), reverse=True)}
    if all(layout in firsts for layout in _TWO_BYTE_FLOATS):
        half, brain = (firsts[layout] for layout in _TWO_BYTE_FLOATS)
        raise InputError(
            f"`{where}` contains both float16 (`{half}`) and bfloat16 (`{brain}`)",
            hint="one may be stored as the other: save the checkpoint again in a single dtype",
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{duplicate}` is duplicated in the header")
    return content
