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
"""Of the release whose server the tests start."""

STATE = """The KV cache stays in the server, as the implicit state of a sequence: give every request of a text the same sequence id, the
first one the start flag and the last one the end flag. Each sequence starts with one cache position of zeros, because a state of no
positions cannot be said. The client masks it:

- `input_ids` (1, n): the prompt first, then one token in each request
- `position_ids` (1, n): 0 to n-1 for the prompt, then n, n+1, ...
- `attention_mask` (1, 1 + all tokens so far): **the first value is 0**, all others 1
- `logits_positions` (1, k): which of this request's tokens get logits; [n-1] for the last

Sequences of different lengths cannot share a call, so the batch is 1; sequences take turns."""
EXPLICIT = """Triton's implicit state cannot say this graph's caches, so they are inputs and outputs as the graph has them: the client
sends the cache and gets it back with each request. The names and shapes are in `config.pbtxt`; the first dimension of `input_ids`
is the batch."""


def text_model(
    artifact: Artifact, settings: TritonSettings, target: ServedTarget, limits: Limits
) -> str:
    """What to install, how to start, how to ask."""
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
    """What the bare graph takes, and what of it has been checked."""
    values = {
        "NAME": settings.name,
        "IMAGE": IMAGE,
        "BACKEND": str(target.backend),
        "USE": STATE if keeps_state(artifact) else EXPLICIT,
        "VERSION": target.graph_note.format(**flat_facts(artifact)),
    }
    return _filled("GRAPH.md", values)


def flat_facts(artifact: Artifact) -> Mapping[str, str]:
    """Facts as text, with `opset` and `toolkit_version`, which lie deeper, by names of their own."""
    facts = artifact.facts
    deeper = {
        "opset": facts.get("opsets", {}).get("ai.onnx", ""),
        "toolkit_version": facts.get("toolkit", {}).get("version", ""),
    }
    return {name: str(one) for name, one in {**facts, **deeper}.items()}


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = (FILES / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
