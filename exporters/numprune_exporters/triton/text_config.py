"""config.pbtxt of the text model, for Triton's Python backend."""

from __future__ import annotations

from typing import Any

from numprune_exporters.triton.limits import Limits
from numprune_exporters.triton.served_targets import ServedTarget, instances
from numprune_exporters.triton.settings import TritonSettings

WARM_UP_PROMPT = "prompt"

INPUTS: tuple[tuple[str, str], ...] = (
    ("max_tokens", "TYPE_INT32"),
    ("temperature", "TYPE_FP32"),
    ("top_k", "TYPE_INT32"),
    ("top_p", "TYPE_FP32"),
    ("seed", "TYPE_UINT64"),
    ("stop_words", "TYPE_STRING"),
    ("stream", "TYPE_BOOL"),
    ("exclude_input_in_output", "TYPE_BOOL"),
)
OUTPUTS: tuple[tuple[str, str, int], ...] = (
    ("text_output", "TYPE_STRING", 1),
    ("token_ids", "TYPE_INT32", -1),
    ("finish_reason", "TYPE_STRING", 1),
    ("num_input_tokens", "TYPE_UINT32", 1),
    ("num_output_tokens", "TYPE_UINT32", 1),
)


def text_config(settings: TritonSettings, target: ServedTarget, limits: Limits) -> dict[str, Any]:
    """The ModelConfig message as a dictionary."""
    return {
        "name": settings.name,
        "backend": "python",
        "max_batch_size": limits.batch,
        "model_transaction_policy": {"decoupled": True},
        "version_policy": {"latest": {"num_versions": 1}},
        "dynamic_batching": {
            "preferred_batch_size": [limits.batch],
            "max_queue_delay_microseconds": settings.queue_delay_us,
        },
        "instance_group": [instances(target, settings.instances)],
        "input": [_required("text_input"), *(_optional(name, kind) for name, kind in INPUTS)],
        "output": [
            {"name": name, "data_type": kind, "dims": [size]} for name, kind, size in OUTPUTS
        ],
        "parameters": {
            "opener": {"string_value": target.opener},
            "capacity": {"string_value": str(limits.capacity)},
            "longest_prompt": {"string_value": str(limits.longest_prompt)},
            "threads": {"string_value": str(settings.threads)},
            "max_tokens": {"string_value": str(settings.max_tokens)},
        },
        "model_warmup": [_warm_up(size) for size in sorted({1, limits.batch})],
    }


def _required(name: str) -> dict[str, Any]:
    return {"name": name, "data_type": "TYPE_STRING", "dims": [1]}


def _optional(name: str, kind: str) -> dict[str, Any]:
    if name == "stop_words":
        # Ragged: requests with different numbers of stop words may share a batch.
        return {
            "name": name,
            "data_type": kind,
            "dims": [-1],
            "optional": True,
            "allow_ragged_batch": True,
        }
    return {"name": name, "data_type": kind, "dims": [1], "optional": True}


def _warm_up(batch: int) -> dict[str, Any]:
    return {
        "name": f"batch of {batch}",
        "batch_size": batch,
        "inputs": {
            "text_input": {
                "data_type": "TYPE_STRING",
                "dims": [1],
                "input_data_file": WARM_UP_PROMPT,
            },
        },
    }


def warm_up_text(text: str) -> bytes:
    """A string in Triton's file format: length in bytes as 4 bytes, little-endian, then UTF-8."""
    encoded = text.encode()
    return len(encoded).to_bytes(4, "little") + encoded
