"""Open an exported graph on the GPU, and refuse a session that fell back to the CPU."""

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
"""Both packages provide one module: removing either breaks the other."""

_SHAPE_ARITHMETIC = {"Concat", "Range", "Shape", "Squeeze", "Sub", "Unsqueeze"}
"""Operators that ONNX Runtime runs on the host by design: they compute shapes, needed there."""


def missing_package() -> str | None:
    """The reason why the installed packages run no graph on a GPU; None: they do."""
    try:
        runtime = require("onnxruntime", extra="gpu")
    except MissingExtraError:
        return f"`{PACKAGE}` is not installed"
    if PROVIDER in runtime.get_available_providers():
        return None
    if _installed(PACKAGE):
        return f"`onnxruntime` and `{PACKAGE}` are both installed and overwrite each other's files"
    return f"the installed `onnxruntime` {runtime.__version__} has no CUDA"


def open_cuda_session(artifact: Artifact, *, threads: int) -> Session:
    """A session with all tensors and operators on the GPU; only shapes are computed on the host.

    Raises:
        InputError: a file is missing, differs from its hash, or this version cannot load the graph.
        MissingExtraError: onnxruntime-gpu is not installed.
        DeviceError: no GPU, its libraries cannot be loaded, or a part of the graph runs on_host.
    """
    missing = missing_package()
    if missing is not None:
        raise MissingExtraError(f"this step needs `{PACKAGE}`: {missing}", hint=INSTALL)
    verify(artifact)
    runtime = require("onnxruntime", extra="gpu")
    with redirect_stdout(io.StringIO()):  # it prints missing libraries; the session reports them
        runtime.preload_dlls()
    options = _options(runtime, threads)
    providers = [(PROVIDER, _PROVIDER_OPTIONS)]
    path = artifact.folder / artifact.entry
    # Test with a graph of one node first: a fallback would load the real one into host memory.
    for graph in (_ONE_NODE, path):
        session = load(runtime, graph, options, providers)
        if session.get_providers()[0] != PROVIDER:
            raise _no_session(runtime, path)
    check_placement(session, path)
    return session


_ONE_NODE = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity'
    b"\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""An ONNX model whose only node is an Identity."""

_PROVIDER_OPTIONS = {
    "device_id": "0",
    # Blocks of the requested size, not of the next power of two: memory is measured.
    "arena_extend_strategy": "kSameAsRequested",
    # By default fp32 matmuls would round their inputs to 10 bits of mantissa.
    "use_tf32": "0",
}


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # `disable_cpu_ep_fallback` would also refuse shape computations.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def check_placement(session: Session, path: Path) -> None:
    """Refuse a session that computes more than shapes on the host.

    Raises:
        DeviceError: an operator runs on the host; the message names it.
    """
    on_host = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
    }
    unexpected = sorted(on_host - _SHAPE_ARITHMETIC)
    if unexpected:
        raise DeviceError(
            f"ONNX Runtime has no CUDA kernels for `{', '.join(unexpected)}` of `{path}`",
            hint="export with another `dtype` or `graph`, or install a newer onnxruntime-gpu",
        )


def _no_session(runtime: Any, path: Path) -> NumpruneError:
    fallback = f"ONNX Runtime {runtime.__version__} would run `{path}` on the CPU, not on the GPU"
    try:
        require_gpu()
    except DeviceError as error:
        return DeviceError(f"{fallback}: {error}", hint=error.hint)
    except MissingExtraError:
        pass  # without the bindings the GPU's state is unknown
    return DeviceError(
        f"{fallback}: its CUDA or cuDNN libraries cannot be loaded",
        hint="pip install 'onnxruntime-gpu[cuda,cudnn]', and read its messages on standard error",
    )


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
