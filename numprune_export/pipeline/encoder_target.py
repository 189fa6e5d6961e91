"""Targets that take encoders."""

from __future__ import annotations

from numprune_export.artifact import Exporter
from numprune_export.encoder import EncoderTarget
from numprune_export.errors import UnsupportedModelError


def encoder_target(exporter: Exporter) -> EncoderTarget:
    """The exporter as one of encoders.

    Raises:
        UnsupportedModelError: it takes none.
    """
    if not isinstance(exporter, EncoderTarget):
        raise UnsupportedModelError(
            f"target `{exporter.name}` does not take encoders yet",
            hint="use `--target onnx`",
        )
    return exporter
