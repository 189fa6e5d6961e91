"""The error of a device whose memory is too small for a stage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from numprune_export.core.errors import DeviceError
from numprune_export.core.foreign import first_line
from numprune_export.core.halving import free, is_full

_BLOCK = "numprune_block"
_WANTED = re.compile(r"Tried to allocate ([\d.]+ \w+)")
_FREE = re.compile(r"of which ([\d.]+ \w+) is free")


@contextmanager
def in_block(index: int) -> Iterator[None]:
    """Context manager: note the block in an error of a full device."""
    try:
        yield
    except RuntimeError as error:
        if is_full(error) and not hasattr(error, _BLOCK):
            setattr(error, _BLOCK, index)
        raise


@contextmanager
def full_device_named(stage: str) -> Iterator[None]:
    """Report a stage for which a device has too little memory, although batches were halved.

    Raises:
        DeviceError: PyTorch could not allocate memory inside the `with`.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_full(error):
            raise
        free()
        block = getattr(error, _BLOCK, None)
        place = f"stage `{stage}`" if block is None else f"stage `{stage}`, block {block}"
        raise DeviceError(
            f"the device's memory is too small for {place}: {_sizes(first_line(error))}",
            hint=f"lower {_keys(stage)}, set `stream_weights: true`, or set `device: cpu`",
        ) from None


def _sizes(said: str) -> str:
    """The bytes that PyTorch's message has; the message if it says something else."""
    wanted, left = _WANTED.search(said), _FREE.search(said)
    if wanted is None or left is None:
        return said.removeprefix("CUDA out of memory. ")
    return f"{wanted[1]} wanted, {left[1]} free"


def _keys(stage: str) -> str:
    """Keys of the recipe that make the smallest part of a stage's work smaller."""
    if stage.startswith("validate"):
        return "`evaluation.tokens_per_sequence` (`max_length` of examples)"
    keys = (
        "`calibration.tokens_per_sequence` (`max_length` of examples) and `calibration.sequences`"
    )
    return f"`generated_text.sequences`, {keys}" if stage == "write-text" else keys
