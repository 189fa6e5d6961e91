"""Targets that take encoders."""

from __future__ import annotations

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.export.exporter import EncoderTarget, Exporter


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
