"""What a model repository's parameters say, and the runner and tokenizer they open."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.export.artifact import Artifact
from numprune_export.export.runner import DecoderRunner
from numprune_exporters.triton.served.text_tokenizer import TextTokenizer

ARTIFACT = "artifact"
TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class Served:
    """One instance of the model."""

    runner: DecoderRunner
    tokenizer: TextTokenizer
    capacity: int
    """Longest sequence in tokens, prompt and generated."""
    longest_prompt: int
    """Tokens that one prefill takes."""
    max_tokens: int
    """Generated for a request that names no limit."""


def open_served(folder: Path, parameters: Mapping[str, Any]) -> Served:
    """Open the version folder of a repository; `parameters` as the server gives them.

    Raises:
        InputError: a file is missing or is not what its hash says.
        MissingExtraError: the runtime is not installed where the server runs.
        DeviceError: the device is not there, too old, or out of memory.
    """
    said = {name: value["string_value"] for name, value in parameters.items()}
    module, _, function = said["opener"].partition(":")
    opener = getattr(importlib.import_module(module), function)
    capacity = int(said["capacity"])
    runner = opener(
        Artifact.load(folder / ARTIFACT), threads=int(said["threads"]), capacity=capacity
    )
    return Served(
        runner,
        TextTokenizer(folder / TOKENIZER),
        capacity=capacity,
        longest_prompt=int(said["longest_prompt"]),
        max_tokens=int(said["max_tokens"]),
    )
