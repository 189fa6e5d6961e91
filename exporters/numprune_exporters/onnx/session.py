"""Open an exported graph as an ONNX Runtime CPU session, after checking the file hashes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numprune_export.core.errors import InputError
from numprune_export.core.optional import require
from numprune_export.export.artifact import Artifact, sha256_of

Session = Any
"""An onnxruntime.InferenceSession; the package has no types."""


def open_session(artifact: Artifact, *, threads: int, graph: str | None = None) -> Session:
    """A session with `threads` threads.

    Args:
        graph: The file to open, relative to the artifact's folder; None: the artifact's entry.

    Raises:
        InputError: a file is missing, differs from its hash, or this version cannot load the graph.
        MissingExtraError: onnxruntime is not installed.
    """
    runtime = require("onnxruntime", extra="cpu")
    verify(artifact)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # On a shared machine a spinning pool starves all processes, including its own.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = artifact.folder / (graph or artifact.entry)
    return load(runtime, path, options, ["CPUExecutionProvider"])


def load(runtime: Any, path: Path | bytes, options: Any, providers: Sequence[Any]) -> Session:
    """A session with these execution providers requested; ask the session which ones it has.

    Args:
        path: The graph's file, or its serialized bytes.

    Raises:
        InputError: this version cannot load the graph.
    """
    state = runtime.capi.onnxruntime_pybind11_state
    not_a_graph = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
    try:
        session = runtime.InferenceSession(path, options, providers=providers, enable_fallback=0)
        _read_names(session)
    except (*not_a_graph, state.NotImplemented, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        name = path if isinstance(path, Path) else "a graph in memory"
        raise InputError(
            f"ONNX Runtime {runtime.__version__} cannot load `{name}`: {reason}",
            hint="export the model again with the versions installed here",
        ) from None
    return session


def _read_names(session: Session) -> None:
    """Raise UnicodeDecodeError if a name or a text in the graph is not UTF-8."""
    _ = [port.name for port in (*session.get_inputs(), *session.get_outputs())]
    _ = session.get_modelmeta().custom_metadata_map


def logit_count(session: Session) -> int:
    """Size of the last dimension of the graph's first output: logits per token or text.

    Raises:
        InputError: there is no such output, because another program wrote the graph.
    """
    outputs = session.get_outputs()
    last = outputs[0].shape[-1] if outputs and outputs[0].shape else None
    if not isinstance(last, int):
        raise _other_graph("has no output with a fixed number of logits")
    return last


def ports_of(session: Session, prefix: str) -> list[Any]:
    """The graph inputs whose names start with `prefix`.

    Raises:
        InputError: there are none, because another program wrote the graph.
    """
    ports = [port for port in session.get_inputs() if port.name.startswith(prefix)]
    if not ports:
        raise _other_graph(f"has no input `{prefix}*`")
    return ports


def fact(session: Session, name: str) -> str:
    """A value of the graph's own metadata.

    Raises:
        InputError: the value is missing, because another program wrote the graph.
    """
    facts: dict[str, str] = session.get_modelmeta().custom_metadata_map
    if name not in facts:
        raise _other_graph(f"has no metadata `{name}`")
    return facts[name]


def number(session: Session, name: str) -> int:
    """An integer of the metadata; raises as `fact`."""
    text = fact(session, name)
    if not text.isdecimal() or len(text) > 18:
        raise _other_graph(f"has `{text[:20]}` as its metadata `{name}`")
    return int(text)


def _other_graph(defect: str) -> InputError:
    return InputError(f"the graph {defect}", hint="export the model again")


def verify(artifact: Artifact) -> None:
    """Check the sha256 of every file of an artifact.

    Raises:
        InputError: a file is missing or differs from its hash.
    """
    for name, digest in artifact.files.items():
        path = artifact.folder / name
        if not path.is_file():
            raise InputError(f"`{path}` is missing", hint="export the model again")
        if sha256_of(path) != digest:
            raise InputError(
                f"`{path}` is not the file that was exported: its sha256 differs",
                hint="export the model again",
            )
    if artifact.entry not in artifact.files:
        raise InputError(
            f"`{artifact.entry}` in `{artifact.folder}` has no hash in its index",
            hint="export the model again",
        )
