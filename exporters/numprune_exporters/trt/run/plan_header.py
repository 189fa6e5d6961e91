"""Read the header of a serialized engine: the TensorRT library and version that wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from numprune_export.core.errors import InputError

_TAGS = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
_VERSION = slice(24, 28)
"""One byte each: major, minor, patch, build."""


@dataclass(frozen=True)
class PlanHeader:
    module: str
    """`tensorrt` or `tensorrt_rtx`."""
    version: tuple[int, int, int, int]

    @property
    def text(self) -> str:
        return ".".join(str(number) for number in self.version)


def read_header(plan: Path) -> PlanHeader:
    """Read the header of a file.

    Raises:
        InputError: the file is not a serialized engine, or has an unknown layout.
    """
    with plan.open("rb") as file:
        start = file.read(_VERSION.stop)
    module = _TAGS.get(start[:4])
    if module is None or len(start) < _VERSION.stop or start[4:8] != bytes(4):
        raise InputError(
            f"`{plan}` does not start as a TensorRT engine does", hint="export the model again"
        )
    major, minor, patch, build = start[_VERSION]
    return PlanHeader(module, (major, minor, patch, build))
