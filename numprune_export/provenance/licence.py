"""The licence of a dense model, where its own files say it. Nothing is asked of a server."""

from __future__ import annotations

import yaml
from huggingface_hub import metadata_load

from numprune_export.models.checkpoint.gguf_header import read_header
from numprune_export.models.checkpoint.source import Source

CARD = "README.md"
_KEYS = ("license", "license_name", "license_link")


def licence_of(source: Source) -> dict[str, str]:
    """`license`, and `license_name` and `license_link` where it is `other`, as the Hugging Face hub
    names them: from the model's card or the GGUF header. Empty where they do not say."""
    if source.kind == "gguf":
        header = read_header(source.path).metadata
        told: dict[str, object] = {
            key: header.get(f"general.{key.replace('_', '.')}") for key in _KEYS
        }
    else:
        told = {key: one for key, one in _metadata(source).items() if key in _KEYS}
    found = {key: one for key, one in told.items() if isinstance(one, str) and one}
    return found if "license" in found else {}


def _metadata(source: Source) -> dict[str, object]:
    card = source.path / CARD
    if not card.is_file():
        return {}
    try:
        return dict(metadata_load(card) or {})
    except (OSError, ValueError, yaml.YAMLError):  # somebody else's file, and only a courtesy
        return {}
