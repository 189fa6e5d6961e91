"""config.pbtxt of the bare graph, for Triton's own ONNX Runtime and TensorRT backends.

The standard graph keeps its KV cache inside the server as implicit state: one entry for each
layer's keys and values, each with that layer's width. Other graphs take caches and lengths that
no state entry can say, so there the client sends and receives the caches.
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
"""Texts that take turns at once, where the settings do not say."""
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
    """Whether the graph's cache is one that Triton can keep: what comes out is what goes in next."""
    return bool(artifact.facts["graph"] == "standard")


def _stateful(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], settings: TritonSettings
) -> dict[str, Any]:
    """One sequence in each batch slot: sequences of different lengths cannot share a call.

    A state of no positions cannot be said, so each starts with one of zeros, which the client
    masks: the first value of `attention_mask` is 0 in every call of a sequence.
    """
    return {
        "max_batch_size": 1,
        "sequence_batching": {
            "max_sequence_idle_microseconds": IDLE_US,
            "oldest": {"max_candidate_sequences": settings.max_batch or SEQUENCES},
            "state": [_state(name, port) for name, port in inputs.items() if _is_past(name)],
        },
        "input": [_port(name, one, 1) for name, one in inputs.items() if not _is_past(name)],
        "output": [
            _port(name, one, 1) for name, one in outputs.items() if not name.startswith(PRESENT)
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
    """Every tensor as it is, the batch included.

    Only such a graph is warmed up: warm-up calls go past the scheduler that holds the states.
    """
    return {
        "max_batch_size": 0,
        "input": [_port(name, one, 0) for name, one in inputs.items()],
        "output": [_port(name, one, 0) for name, one in outputs.items()],
        "model_warmup": [
            {
                "name": "one token",
                "batch_size": 1,
                "inputs": {name: _warm_up(name, one) for name, one in inputs.items()},
            }
        ],
    }


def _warm_up(name: str, port: Mapping[str, Any]) -> dict[str, Any]:
    """Zeros of size 1 wherever the size is free: the first token of the vocabulary, an empty cache."""
    said: dict[str, Any] = {"zero_data": True}
    if name == "total_sequence_length":
        said = {"input_data_file": ONE_TOTAL}
    dims = [size if isinstance(size, int) else 1 for size in port["shape"]] or [1]
    return {"data_type": TYPES[port["type"]], "dims": dims, **said}


def _profile(artifact: Artifact, target: ServedTarget) -> dict[str, Any]:
    """An engine has a profile for prompts and one for decoding; each needs an instance."""
    if "profiles" not in artifact.facts:
        return {}
    return {"instance_group": [{**instances(target, 1), "profile": ["0", "1"]}]}


def _port(name: str, port: Mapping[str, Any], skipped: int) -> dict[str, Any]:
    """A port without its first `skipped` dimensions; a name for a size is any size."""
    dims = [size if isinstance(size, int) else -1 for size in port["shape"][skipped:]]
    found: dict[str, Any] = {"name": name, "data_type": TYPES[port["type"]], "dims": dims or [1]}
    if not dims:
        # Triton has no tensor of no dimensions: one value is reshaped to it.
        found["reshape"] = {"shape": []}
    return found


def _is_past(name: str) -> bool:
    return name.startswith(PAST)
