"""config.pbtxt of the bare graph, for Triton's own ONNX Runtime and TensorRT backends.

The standard graph keeps its KV cache in the server as implicit state, with one entry for the keys
and one for the values of each layer. Implicit state cannot express the caches and lengths of other
graphs; their client sends and receives the caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numprune_export.export.artifact import Artifact
from numprune_exporters.triton.served_targets import ServedTarget, instances
from numprune_exporters.triton.settings import TritonSettings

TYPES: Mapping[str, str] = {
    "float": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "bool": "TYPE_BOOL",
}
PAST, PRESENT = "past_key_values.", "present."
IDLE_US = 60_000_000
SEQUENCES = 8
"""Concurrent sequences if the settings set no `max_batch`."""
ONE_TOTAL = "one"
"""The warm-up file with the value 1."""


def graph_config(
    artifact: Artifact, target: ServedTarget, settings: TritonSettings
) -> dict[str, Any]:
    """The ModelConfig message as a dictionary."""
    frame = {
        "name": f"{settings.name}_graph",
        "backend": target.backend,
        "default_model_filename": target.default_file,
        "version_policy": {"latest": {"num_versions": 1}},
        "instance_group": [instances(target, settings.instances)],
    }
    inputs, outputs = artifact.facts["inputs"], artifact.facts["outputs"]
    if keeps_state(artifact):
        return {**frame, **_stateful(inputs, outputs, settings)}
    return {**frame, **_explicit(inputs, outputs), **_profile(artifact, target)}


def keeps_state(artifact: Artifact) -> bool:
    """Whether Triton can keep the cache: a call's output cache is the next call's input."""
    return bool(artifact.facts["graph"] == "standard")


def _stateful(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], settings: TritonSettings
) -> dict[str, Any]:
    """Inputs, outputs and states for one sequence per call; lengths differ between sequences.

    A state cannot have zero positions, so each starts with one position of zeros. The client masks
    it: the first value of `attention_mask` is 0 in every call of a sequence.
    """
    return {
        "max_batch_size": 1,
        "sequence_batching": {
            "max_sequence_idle_microseconds": IDLE_US,
            "oldest": {"max_candidate_sequences": settings.max_batch or SEQUENCES},
            "state": [_state(name, port) for name, port in inputs.items() if _is_past(name)],
        },
        "input": [_port(name, port, 1) for name, port in inputs.items() if not _is_past(name)],
        "output": [
            _port(name, port, 1) for name, port in outputs.items() if not name.startswith(PRESENT)
        ],
    }


def _state(name: str, port: Mapping[str, Any]) -> dict[str, Any]:
    _, heads, _, width = port["shape"]
    kind = TYPES[port["type"]]
    return {
        "input_name": name,
        "output_name": name.replace(PAST, PRESENT),
        "data_type": kind,
        "dims": [heads, -1, width],
        "initial_state": [
            {
                "name": f"empty {name}",
                "data_type": kind,
                "dims": [heads, 1, width],
                "zero_data": True,
            }
        ],
    }


def _explicit(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs and outputs with all dimensions, the batch included, and warm-up calls.

    Graphs with implicit state have no warm-up: it bypasses the scheduler that holds the states.
    """
    return {
        "max_batch_size": 0,
        "input": [_port(name, port, 0) for name, port in inputs.items()],
        "output": [_port(name, port, 0) for name, port in outputs.items()],
        "model_warmup": [
            {
                "name": "one token",
                "batch_size": 1,
                "inputs": {name: _warm_up(name, port) for name, port in inputs.items()},
            }
        ],
    }


def _warm_up(name: str, port: Mapping[str, Any]) -> dict[str, Any]:
    """Zeros with every dynamic dimension 1: token 0 and an empty cache."""
    data: dict[str, Any] = {"zero_data": True}
    if name == "total_sequence_length":
        data = {"input_data_file": ONE_TOTAL}
    dims = [size if isinstance(size, int) else 1 for size in port["shape"]] or [1]
    return {"data_type": TYPES[port["type"]], "dims": dims, **data}


def _profile(artifact: Artifact, target: ServedTarget) -> dict[str, Any]:
    """Instances of an engine: its prefill and decode profiles need one each."""
    if "profiles" not in artifact.facts:
        return {}
    return {"instance_group": [{**instances(target, 1), "profile": ["0", "1"]}]}


def _port(name: str, port: Mapping[str, Any], skipped: int) -> dict[str, Any]:
    """A port without its first `skipped` dimensions; dynamic dimensions are -1."""
    dims = [size if isinstance(size, int) else -1 for size in port["shape"][skipped:]]
    config: dict[str, Any] = {"name": name, "data_type": TYPES[port["type"]], "dims": dims or [1]}
    if not dims:
        # Triton has no scalar tensors: a vector of one value is reshaped.
        config["reshape"] = {"shape": []}
    return config


def _is_past(name: str) -> bool:
    return name.startswith(PAST)
