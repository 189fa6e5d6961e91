"""What the builder made: the layers of an engine as its inspector reports them, and their dtypes."""

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
"""Names that the graph writer gives the nodes that read weights or mix values."""
_DTYPES = (
    ("bfloat16", re.compile(r"bfloat16|bf16", re.IGNORECASE)),
    ("float16", re.compile(r"half|fp16|float16", re.IGNORECASE)),
    ("float32", re.compile(r"float|fp32", re.IGNORECASE)),
    ("int8", re.compile(r"int8|fp8|int4|fp4", re.IGNORECASE)),
)
"""First match wins: the inspector writes `Half` or `Row major linear FP16 format`, by version."""


def inspect(toolkit: Toolkit, plan: Any, dtype: str) -> dict[str, Any]:
    """The inspector's report of an engine whose dtypes are the asked ones. Needs a GPU.

    Args:
        plan: The serialized engine, as a buffer.

    Raises:
        UnsupportedModelError: the engine computes in another dtype; the message names the layer.
        DeviceError: the engine cannot be loaded here.
    """
    runtime = toolkit.module.Runtime(toolkit.logger)
    with toolkit.listening() as heard:
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise DeviceError(
            f"{toolkit.title} cannot load the engine it has built: {reason(heard)}",
            hint="free memory on the GPU; if it stays, build with another version",
        )
    check_engine_ports(engine, dtype)
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(toolkit.module.LayerInformationFormat.JSON)
    report: dict[str, Any] = json.loads(text)
    check_layers(report, dtype)
    return report


def check_layers(report: Mapping[str, Any], dtype: str) -> int:
    """Whether all matrix products are computed in `dtype`; how many of them the engine names.

    One node's work may be spread over several layers, some of them casts around the product: one of
    them has to show the dtype, and none a type that is neither it nor fp32.

    Args:
        report: The inspector's JSON: `Layers`, each with `Name`, `Metadata` (the graph's nodes that
            it does the work of) and, with their `Format/Datatype`, `Inputs` and `Outputs`.

    Raises:
        UnsupportedModelError: one is not, or the report names none.
    """
    shown: dict[str, set[str]] = {}
    for layer in _detailed(report):
        found = set(_dtypes(layer))
        for node in _products(layer):
            if other := found - {dtype, "float32"}:
                raise _wrong(f"layer `{layer.get('Name', '?')}`", other, dtype)
            shown.setdefault(node, set()).update(found)
    for node, found in shown.items():
        if dtype not in found:
            raise _wrong(f"node `{node}`", found, dtype)
    if not shown:
        raise UnsupportedModelError(
            "the engine's inspector names no layer with a matrix product, so its dtypes are unknown",
            hint="build with another version of TensorRT, and report this one",
        )
    return len(shown)


def _detailed(report: Mapping[str, Any]) -> Iterator[Layer]:
    """Without detailed verbosity a layer is only its name."""
    return (layer for layer in report.get("Layers", ()) if isinstance(layer, Mapping))


def _products(layer: Layer) -> set[str]:
    """Names of the graph's nodes with matrix products that a layer does work of."""
    return set(_PRODUCT.findall(f"{layer.get('Name', '')} {layer.get('Metadata', '')}"))


def _wrong(what: str, found: set[str], dtype: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"engine {what} computes in `{', '.join(sorted(found)) or 'nothing known'}`,"
        f" asked for was `{dtype}`",
        hint="export with another `dtype`, or with another version of TensorRT",
    )


def _dtypes(layer: Layer) -> Iterator[str]:
    for port in (*layer.get("Inputs", ()), *layer.get("Outputs", ())):
        written = str(port.get("Format/Datatype", ""))
        for name, pattern in _DTYPES:
            if pattern.search(written):
                yield name
                break
