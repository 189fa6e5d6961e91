"""Activations that the graphs support. Apart from the graph writer, so a check imports no onnx."""

from __future__ import annotations

from numprune_export.core.errors import UnsupportedModelError

ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


def refuse_activation(name: str) -> None:
    """Raise UnsupportedModelError for an activation that no graph supports."""
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"activation `{name}` has no ONNX form in the target `onnx`",
            hint=f"supported activations: {', '.join(ACTIVATIONS)}",
        )
