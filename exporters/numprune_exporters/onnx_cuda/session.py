"""Opening an exported graph on the GPU: a session of ONNX Runtime that did not fall back to the CPU."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numprune_export.core.errors import DeviceError, MissingExtraError, NumpruneError
from numprune_export.core.optional import require
from numprune_export.export.artifact import Artifact
from numprune_exporters.cuda.device import require_gpu
from numprune_exporters.onnx.session import Session, load, verify

PROVIDER = "CUDAExecutionProvider"
PACKAGE = "onnxruntime-gpu"
INSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'numprune-export[gpu]'"
"""Both packages hold one module, so that removing either breaks the other."""

_SHAPE_ARITHMETIC = {"Concat", "Range", "Shape", "Squeeze", "Sub", "Unsqueeze"}
"""What ONNX Runtime computes on the host on purpose: shapes, which are needed there."""


def missing_package() -> str | None:
    """Why no graph can run on a GPU by what is installed, or None if one can."""
    try:
        runtime = require("onnxruntime", extra="gpu")
    except MissingExtraError:
        return f"`{PACKAGE}` is not installed"
    if PROVIDER in runtime.get_available_providers():
        return None
    if _installed(PACKAGE):
        return f"`onnxruntime` and `{PACKAGE}` are both installed, and the first has replaced files"
    return f"`onnxruntime` {runtime.__version__} is installed, which has no CUDA"


def open_cuda_session(artifact: Artifact, *, threads: int) -> Session:
    """A session with all of its tensors and operators on the GPU; shapes are computed on the host.

    Raises:
        InputError: a file is missing, differs from its hash, or is not a graph this version reads.
        MissingExtraError: onnxruntime-gpu is not installed.
        DeviceError: no GPU, its libraries cannot be loaded, or a part of the graph is not on it.
    """
    missing = missing_package()
    if missing is not None:
        raise MissingExtraError(f"this step needs `{PACKAGE}`: {missing}", hint=INSTALL)
    verify(artifact)
    runtime = require("onnxruntime", extra="gpu")
    with redirect_stdout(io.StringIO()):  # it prints what it does not find; the session tells
        runtime.preload_dlls()
    options = _options(runtime, threads)
    providers = [(PROVIDER, _PROVIDER_OPTIONS)]
    path = artifact.folder / artifact.entry
    # Asked first with a graph of nothing: a real one would be loaded into the host's memory.
    for graph in (_NOTHING, path):
        session = load(runtime, graph, options, providers)
        if session.get_providers()[0] != PROVIDER:
            raise _no_session(runtime, path)
    check_placement(session, path)
    return session


_NOTHING = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity'
    b"\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""An ONNX model whose only node is an Identity."""

_PROVIDER_OPTIONS = {
    "device_id": "0",
    # Blocks as large as asked for, not the next power of two: memory is one of our measurements.
    "arena_extend_strategy": "kSameAsRequested",
    # fp32 is fp32: by default its products would round their inputs to 10 bits of mantissa.
    "use_tf32": "0",
}


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # `disable_cpu_ep_fallback` would also refuse the arithmetic of shapes.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def check_placement(session: Session, path: Path) -> None:
    """Refuse a session that computes more than shapes on the host.

    Raises:
        DeviceError: with the operators that are there.
    """
    elsewhere = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
    }
    astray = sorted(elsewhere - _SHAPE_ARITHMETIC)
    if astray:
        raise DeviceError(
            f"ONNX Runtime has no CUDA kernels for `{', '.join(astray)}` of `{path}`",
            hint="export with another `dtype` or `graph`, or install a newer onnxruntime-gpu",
        )


def _no_session(runtime: Any, path: Path) -> NumpruneError:
    what = f"ONNX Runtime {runtime.__version__} would run `{path}` on the CPU, not on the GPU"
    try:
        require_gpu()
    except DeviceError as error:
        return DeviceError(f"{what}: {error}", hint=error.hint)
    except MissingExtraError:
        pass  # without the bindings nothing is known of the GPU, and nothing said
    return DeviceError(
        f"{what}: its CUDA or cuDNN libraries cannot be loaded",
        hint="pip install 'onnxruntime-gpu[cuda,cudnn]', and look at its messages on standard error",
    )


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
