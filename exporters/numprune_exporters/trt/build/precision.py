"""Check that a network or its engine computes in the requested dtypes.

A strongly typed network fixes its dtypes, so they are checked before the build, without a GPU. The
engine's dtypes are checked after the build, which needs a GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from numprune_export.core.errors import UnsupportedModelError
from numprune_exporters.runners.slot_steps import NEW, PAST

TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}
"""Dtype to the toolkit's name."""
_FLOATING = frozenset({*TYPES.values(), "FP8", "FP4", "INT4", "INT8", "E8M0"})

_MATMULS = frozenset({"MATRIX_MULTIPLY", "ATTENTION_INPUT", "ATTENTION_OUTPUT"})
"""Layers that must compute in the requested dtype."""
_FP32 = frozenset({"SOFTMAX", "REDUCE"})
"""Layers that must compute in fp32: softmax, and the mean of a norm."""


def check_network(network: Any, dtype: str) -> dict[str, dict[str, int]]:
    """Check all layers and ports; returns kind of layer to output type to count.

    Raises:
        UnsupportedModelError: a layer, input or output does not have the requested type.
    """
    wanted, census = TYPES[dtype], Counter[tuple[str, str]]()
    for layer in _layers(network):
        kind = layer.type.name
        for actual in _outputs(layer):
            census[kind, actual] += 1
            due = wanted if kind in _MATMULS else "FLOAT" if kind in _FP32 else actual
            if actual in _FLOATING and actual != due:
                raise _wrong(f"layer `{layer.name}` ({kind})", actual, due)
    _check_ports(_ports(network), wanted)
    return _nested(census)


def check_engine_ports(engine: Any, dtype: str) -> None:
    """Raise UnsupportedModelError if an input or output does not have the requested type."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    _check_ports({name: engine.get_tensor_dtype(name).name for name in names}, TYPES[dtype])


def _check_ports(ports: Mapping[str, str], wanted: str) -> None:
    """Logits must be fp32, caches and their new entries `wanted`, and the rest int64."""
    for name, actual in ports.items():
        cache = name == NEW or name.startswith(f"{PAST}.")
        due = wanted if cache else "FLOAT" if name == "logits" else "INT64"
        if actual != due:
            raise _wrong(f"`{name}`", actual, due)


def _layers(network: Any) -> Iterator[Any]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _outputs(layer: Any) -> list[str]:
    return [layer.get_output(index).dtype.name for index in range(layer.num_outputs)]


def _ports(network: Any) -> dict[str, str]:
    ports = [network.get_input(index) for index in range(network.num_inputs)]
    ports += [network.get_output(index) for index in range(network.num_outputs)]
    return {port.name: port.dtype.name for port in ports}


def _nested(census: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (kind, dtype), count in sorted(census.items()):
        nested.setdefault(kind, {})[dtype] = count
    return nested


def _wrong(part: str, actual: str, due: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{part} has the type `{actual}`, not the requested `{due}`",
        hint="export with another `dtype` or `graph`, or with another version of TensorRT",
    )
