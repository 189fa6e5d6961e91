"""Open the runner and the tokenizer of a model repository from its parameters."""

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
    """Most tokens of one prefill."""
    max_tokens: int
    """Most generated tokens of a request without a limit."""


def open_served(folder: Path, parameters: Mapping[str, Any]) -> Served:
    """Open the version folder of a repository.

    Args:
        folder: The version folder.
        parameters: The parameters of config.pbtxt, as Triton passes them.

    Raises:
        InputError: a file is missing or differs from its hash.
        MissingExtraError: the runtime is not installed in the server's environment.
        DeviceError: the device is missing, too old, or out of memory.
    """
    texts = {name: value["string_value"] for name, value in parameters.items()}
    module, _, function = texts["opener"].partition(":")
    opener = getattr(importlib.import_module(module), function)
    capacity = int(texts["capacity"])
    runner = opener(
        Artifact.load(folder / ARTIFACT), threads=int(texts["threads"]), capacity=capacity
    )
    return Served(
        runner,
        TextTokenizer(folder / TOKENIZER),
        capacity=capacity,
        longest_prompt=int(texts["longest_prompt"]),
        max_tokens=int(texts["max_tokens"]),
    )
