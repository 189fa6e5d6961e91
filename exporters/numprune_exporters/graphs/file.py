"""Write a graph as two files, `model.onnx` and its weights, one weight in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numprune_export.core.errors import OutputError

if TYPE_CHECKING:
    import onnx_ir

ENTRY = "model.onnx"
WEIGHTS = "model.onnx.data"


def write(model: onnx_ir.Model, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` and `model.onnx.data`, and check them with `onnx.checker`.

    Returns:
        Facts that describe the graph: `opsets`, `inputs`, `outputs`, `versions`.

    Raises:
        OutputError: the folder cannot be written.
        NumericalError: a weight does not fit the graph's dtype.
    """
    # Imported here: opening an artifact must not import the graph writer.
    import onnx
    import onnx_ir

    try:
        onnx_ir.save(model, folder / ENTRY, external_data=WEIGHTS)
    except OSError as error:
        raise OutputError(
            f"cannot write the graph to `{folder}`: {error.strerror or error}",
            hint="if the disk is full, free some space and run the same command again: it resumes",
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
        "shape": [size if isinstance(size, int) else str(size) for size in port.shape],
    }
