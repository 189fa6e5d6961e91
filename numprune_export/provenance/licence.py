"""Read the licence of a dense model from its own files; no network access."""

from __future__ import annotations

import yaml
from huggingface_hub import metadata_load

from numprune_export.models.checkpoint.gguf_header import read_header
from numprune_export.models.checkpoint.source import Source

CARD = "README.md"
_KEYS = ("license", "license_name", "license_link")


def licence_of(source: Source) -> dict[str, str]:
    """Licence fields with the Hugging Face hub's keys: `license`, and for `other` also
    `license_name` and `license_link`. Read from the model card or the GGUF header; empty if not
    stated there."""
    if source.kind == "gguf":
        header = read_header(source.path).metadata
        values: dict[str, object] = {
            key: header.get(f"general.{key.replace('_', '.')}") for key in _KEYS
        }
    else:
        values = {key: value for key, value in _metadata(source).items() if key in _KEYS}
    licence = {key: value for key, value in values.items() if isinstance(value, str) and value}
    return licence if "license" in licence else {}


def _metadata(source: Source) -> dict[str, object]:
    card = source.path / CARD
    if not card.is_file():
        return {}
    try:
        return dict(metadata_load(card) or {})
    except (OSError, ValueError, yaml.YAMLError):  # a third-party file, and the licence is optional
        return {}
