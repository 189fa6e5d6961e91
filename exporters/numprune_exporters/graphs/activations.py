"""Which activations a graph can express. Apart from the graph writer: asked before it is needed."""

from __future__ import annotations

from numprune_export.core.errors import UnsupportedModelError

ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


def refuse_activation(name: str) -> None:
    """Raise UnsupportedModelError for an activation that no graph can express."""
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"activation `{name}` has no ONNX form in the target `onnx`",
            hint=f"supported activations: {', '.join(ACTIVATIONS)}",
        )
