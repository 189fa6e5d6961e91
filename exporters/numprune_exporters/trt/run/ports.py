"""Inputs and outputs of an engine of the slot graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import InputError
from numprune_exporters.runners.slot_steps import NEW, PAST

Engine = Any
"""An ICudaEngine; TensorRT's bindings have no types."""

_ITEM_BYTES = {"FLOAT": 4, "HALF": 2, "BF16": 2}
_OTHERS = {"input_ids", "position_ids", "logits_positions", "slot_positions", "logits", NEW}


@dataclass(frozen=True)
class Port:
    """An input or output tensor."""

    shape: tuple[int, ...]
    """-1 for a dynamic dimension."""
    dtype: str
    """TensorRT's name of the type."""


@dataclass(frozen=True)
class EnginePorts:
    """Sizes that the engine's runner needs."""

    caches: tuple[str, ...]
    """Names of the cache inputs: layer 0 keys, layer 0 values, layer 1 keys."""
    heads: tuple[int, ...]
    """KV heads of each cache input."""
    head_dim: int
    token_bytes: int
    """head_dim times the size of an element of the cache."""
    vocabulary: int


def engine_tensors(engine: Engine) -> dict[str, Port]:
    """All input and output tensors by name."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {
        name: Port(tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name).name)
        for name in names
    }


def read_ports(tensors: Mapping[str, Port]) -> EnginePorts:
    """Sizes per layer, from the engine's tensors.

    Raises:
        InputError: the tensors are not those of a slot graph.
    """
    layers = sum(name.startswith(f"{PAST}.") for name in tensors) // 2
    caches = [f"{PAST}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    if not caches or set(tensors) != {*caches, *_OTHERS}:
        raise InputError(
            f"this engine's tensors `{', '.join(sorted(tensors))}` are not a slot graph's",
            hint="export the model again with the version installed here",
        )
    first = tensors[caches[0]]
    head_dim = first.shape[3]
    return EnginePorts(
        caches=tuple(caches),
        heads=tuple(tensors[name].shape[0] for name in caches),
        head_dim=head_dim,
        token_bytes=head_dim * _ITEM_BYTES[first.dtype],
        vocabulary=tensors["logits"].shape[2],
    )
