"""A hash over a JSON file's own content, to detect later edits.

It detects accidental edits only: anybody can recompute it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

KEY = "sha256"

Seal = Literal["whole", "edited", "absent"]
"""`whole`: the hash matches. `edited`: it does not. `absent`: the file predates the hash."""


def content_sha256(content: Mapping[str, Any]) -> str:
    """Hex SHA-256 over all keys except the hash itself, independent of key order and spacing."""
    own = {key: value for key, value in content.items() if key != KEY}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its hash as the last key."""
    own = {key: value for key, value in content.items() if key != KEY}
    return {**own, KEY: content_sha256(own)}


def seal_of(content: Mapping[str, Any]) -> Seal:
    """Compare the stored hash with the content."""
    if KEY not in content:
        return "absent"
    return "whole" if content[KEY] == content_sha256(content) else "edited"
