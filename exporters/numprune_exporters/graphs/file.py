"""A graph as two files: the model, and its weights beside it, written one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numprune_export.core.errors import OutputError

if TYPE_CHECKING:
    import onnx_ir

ENTRY = "model.onnx"
WEIGHTS = "model.onnx.data"


def write(model: onnx_ir.Model, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` and `model.onnx.data`, and check them.

    Returns:
        Facts that describe the graph: `opsets`, `inputs`, `outputs`, `versions`.

    Raises:
        OutputError: the folder cannot be written.
        NumericalError: a weight does not fit the graph's dtype.
    """
    # Here and not above: opening an artifact needs no graph writer.
    import onnx
    import onnx_ir

    try:
        onnx_ir.save(model, folder / ENTRY, external_data=WEIGHTS)
    except OSError as error:
        raise OutputError(
            f"cannot write the graph to `{folder}`: {error.strerror or error}",
            hint="if the disk is full, free some space and run the same command again: it goes on where it stopped",
        ) from None
    onnx.checker.check_model(folder / ENTRY, full_check=True)
    return {
        "opsets": {name or "ai.onnx": number for name, number in model.opset_imports.items()},
        "inputs": {port.name: _description(port) for port in model.graph.inputs},
        "outputs": {port.name: _description(port) for port in model.graph.outputs},
        "versions": {"onnx": onnx.__version__, "onnx-ir": onnx_ir.__version__},
    }


def _description(port: Any) -> dict[str, Any]:
    return {
        "type": port.dtype.name.lower(),
        "shape": [one if isinstance(one, int) else str(one) for one in port.shape],
    }
