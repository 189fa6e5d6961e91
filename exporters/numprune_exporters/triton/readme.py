"""The two README files of a package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from numprune_export.export.artifact import Artifact
from numprune_exporters.triton.graph_config import keeps_state
from numprune_exporters.triton.limits import Limits
from numprune_exporters.triton.served_targets import ServedTarget
from numprune_exporters.triton.settings import TritonSettings

FILES = Path(__file__).parent / "files"
IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
"""Image of the release that the tests run."""

STATE = """The KV cache stays in the server as the implicit state of a sequence. All requests of a text carry the same sequence id; the first
has the start flag, the last the end flag. Each sequence starts with one cache position of zeros, because a state cannot have zero
positions. The client masks it:

- `input_ids` (1, n): the prompt first, then one token in each request
- `position_ids` (1, n): 0 to n-1 for the prompt, then n, n+1, ...
- `attention_mask` (1, 1 + all tokens so far): **the first value is 0**, all others 1
- `logits_positions` (1, k): indices of this request's tokens whose logits are returned; [n-1] for the last

Sequences of different lengths cannot share a call, so the batch is 1; sequences take turns."""
EXPLICIT = """Triton's implicit state cannot express this graph's caches, so they are inputs and outputs of the model: the client sends the
cache and receives it with each request. The names and shapes are in `config.pbtxt`; the first dimension of `input_ids` is the
batch."""


def text_model(
    artifact: Artifact, settings: TritonSettings, target: ServedTarget, limits: Limits
) -> str:
    """README of the text model: requirements, start, requests."""
    values = {
        "NAME": settings.name,
        "IMAGE": IMAGE,
        "TARGET": artifact.target,
        "DTYPE": str(artifact.facts["dtype"]),
        "CAPACITY": str(limits.capacity),
        "MAX_BATCH": str(limits.batch),
        "MAX_TOKENS": str(settings.max_tokens),
        "INSTANCES": str(settings.instances),
        "GPUS": " --gpus all" if target.kind == "KIND_GPU" else "",
        "RUNTIME": target.note.format(**flat_facts(artifact)),
    }
    return _filled("README.md", values)


def graph(artifact: Artifact, settings: TritonSettings, target: ServedTarget) -> str:
    """README of the bare graph: its inputs, and how far it was checked."""
    values = {
        "NAME": settings.name,
        "IMAGE": IMAGE,
        "BACKEND": str(target.backend),
        "USE": STATE if keeps_state(artifact) else EXPLICIT,
        "VERSION": target.graph_note.format(**flat_facts(artifact)),
    }
    return _filled("GRAPH.md", values)


def flat_facts(artifact: Artifact) -> Mapping[str, str]:
    """Facts as text; the nested `opset` and `toolkit_version` become entries of their own."""
    facts = artifact.facts
    nested = {
        "opset": facts.get("opsets", {}).get("ai.onnx", ""),
        "toolkit_version": facts.get("toolkit", {}).get("version", ""),
    }
    return {name: str(fact) for name, fact in {**facts, **nested}.items()}


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = (FILES / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
