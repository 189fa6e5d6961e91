"""Check the dtypes of an engine's layers, as reported by its inspector."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from numprune_export.core.errors import DeviceError, UnsupportedModelError
from numprune_exporters.trt.build.precision import check_engine_ports
from numprune_exporters.trt.messages import reason
from numprune_exporters.trt.toolkit import Toolkit

Layer = Mapping[str, Any]

_PRODUCT = re.compile(r"(?:layers\.\d+/)?\b(?:MatMul|Gemm|Attention)_\d+")
"""Graph writer's names of nodes with matmuls: projections and attention."""
_DTYPES = (
    ("bfloat16", re.compile(r"bfloat16|bf16", re.IGNORECASE)),
    ("float16", re.compile(r"half|fp16|float16", re.IGNORECASE)),
    ("float32", re.compile(r"float|fp32", re.IGNORECASE)),
    ("int8", re.compile(r"int8|fp8|int4|fp4", re.IGNORECASE)),
)
"""First match counts. By version the inspector writes `Half` or `Row major linear FP16 format`."""


def inspect(toolkit: Toolkit, plan: Any, dtype: str) -> dict[str, Any]:
    """The inspector's report of an engine, after checking its dtypes. Needs a GPU.

    Args:
        plan: The serialized engine, as a buffer.

    Raises:
        UnsupportedModelError: the engine computes in another dtype; the message names the layer.
        DeviceError: the engine cannot be loaded here.
    """
    runtime = toolkit.module.Runtime(toolkit.logger)
    with toolkit.listening() as messages:
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise DeviceError(
            f"{toolkit.title} cannot load the engine that it built: {reason(messages)}",
            hint="free memory on the GPU; if it fails again, build with another version",
        )
    check_engine_ports(engine, dtype)
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(toolkit.module.LayerInformationFormat.JSON)
    report: dict[str, Any] = json.loads(text)
    check_layers(report, dtype)
    return report


def check_layers(report: Mapping[str, Any], dtype: str) -> int:
    """Check that all matmuls are computed in `dtype`; returns the number of matmul nodes.

    The work of a node may be spread over several layers, including casts around the matmul. One of
    them must show `dtype`, and none a type other than `dtype` and fp32.

    Args:
        report: The inspector's JSON: `Layers`, each with `Name`, `Metadata` (the graph nodes that
            it computes) and, with their `Format/Datatype`, `Inputs` and `Outputs`.
        dtype: `float32`, `float16` or `bfloat16`.

    Raises:
        UnsupportedModelError: a matmul has another dtype, or the report names no matmul.
    """
    shown: dict[str, set[str]] = {}
    for layer in _detailed(report):
        dtypes = set(_dtypes(layer))
        for node in _products(layer):
            if other := dtypes - {dtype, "float32"}:
                raise _wrong(f"layer `{layer.get('Name', '?')}`", other, dtype)
            shown.setdefault(node, set()).update(dtypes)
    for node, dtypes in shown.items():
        if dtype not in dtypes:
            raise _wrong(f"node `{node}`", dtypes, dtype)
    if not shown:
        raise UnsupportedModelError(
            "the engine's inspector names no layer with a matmul, so its dtypes are unknown",
            hint="build with another version of TensorRT, and report this one",
        )
    return len(shown)


def _detailed(report: Mapping[str, Any]) -> Iterator[Layer]:
    """Layers with details; without detailed verbosity a layer is only its name."""
    return (layer for layer in report.get("Layers", ()) if isinstance(layer, Mapping))


def _products(layer: Layer) -> set[str]:
    """Names of the graph's matmul nodes that a layer computes."""
    return set(_PRODUCT.findall(f"{layer.get('Name', '')} {layer.get('Metadata', '')}"))


def _wrong(part: str, dtypes: set[str], dtype: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"engine {part} computes in `{', '.join(sorted(dtypes)) or 'an unknown dtype'}`,"
        f" not in the requested `{dtype}`",
        hint="export with another `dtype`, or with another version of TensorRT",
    )


def _dtypes(layer: Layer) -> Iterator[str]:
    for port in (*layer.get("Inputs", ()), *layer.get("Outputs", ())):
        text = str(port.get("Format/Datatype", ""))
        for name, pattern in _DTYPES:
            if pattern.search(text):
                yield name
                break
