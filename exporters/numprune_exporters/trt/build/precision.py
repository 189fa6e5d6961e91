"""Whether a network, or the engine made of it, computes in the dtypes that were asked for.

The network's own types are binding (strong typing), so they can be read before anything is built and
with no GPU. What the builder made of them is read back from the engine, which takes one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from numprune_export.core.errors import UnsupportedModelError
from numprune_exporters.runners.slot_steps import NEW, PAST

TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}
"""A dtype to the toolkit's name for it."""
_FLOATING = frozenset({*TYPES.values(), "FP8", "FP4", "INT4", "INT8", "E8M0"})

_PRODUCTS = frozenset({"MATRIX_MULTIPLY", "ATTENTION_INPUT", "ATTENTION_OUTPUT"})
"""Layers that must compute in the asked dtype."""
_FP32 = frozenset({"SOFTMAX", "REDUCE"})
"""Layers that must compute in fp32: the softmax, and the mean of a norm."""


def check_network(network: Any, dtype: str) -> dict[str, dict[str, int]]:
    """Every layer's output types; kinds of layers to type to count.

    Raises:
        UnsupportedModelError: a layer, input or output has another type than asked for.
    """
    wanted, census = TYPES[dtype], Counter[tuple[str, str]]()
    for layer in _layers(network):
        kind = layer.type.name
        for found in _outputs(layer):
            census[kind, found] += 1
            due = wanted if kind in _PRODUCTS else "FLOAT" if kind in _FP32 else found
            if found in _FLOATING and found != due:
                raise _wrong(f"layer `{layer.name}` ({kind})", found, due)
    _check_ports(_ports(network), wanted)
    return _nested(census)


def check_engine_ports(engine: Any, dtype: str) -> None:
    """Raise UnsupportedModelError where an engine's input or output has not the asked type."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    _check_ports({name: engine.get_tensor_dtype(name).name for name in names}, TYPES[dtype])


def _check_ports(ports: Mapping[str, str], wanted: str) -> None:
    """Logits are fp32; caches and their new entries are of the asked type; the rest are integers."""
    for name, found in ports.items():
        cache = name == NEW or name.startswith(f"{PAST}.")
        due = wanted if cache else "FLOAT" if name == "logits" else "INT64"
        if found != due:
            raise _wrong(f"`{name}`", found, due)


def _layers(network: Any) -> Iterator[Any]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _outputs(layer: Any) -> list[str]:
    return [layer.get_output(index).dtype.name for index in range(layer.num_outputs)]


def _ports(network: Any) -> dict[str, str]:
    ports = [network.get_input(index) for index in range(network.num_inputs)]
    ports += [network.get_output(index) for index in range(network.num_outputs)]
    return {one.name: one.dtype.name for one in ports}


def _nested(census: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (kind, dtype), count in sorted(census.items()):
        found.setdefault(kind, {})[dtype] = count
    return found


def _wrong(what: str, found: str, due: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{what} has the type `{found}`, asked for was `{due}`",
        hint="export with another `dtype` or `graph`, or with another version of TensorRT",
    )
