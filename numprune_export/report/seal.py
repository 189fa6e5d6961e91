"""A hash over a file's own content, so that a later edit by hand can be said.

It guards against mistakes, not against an author who computes it anew.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

KEY = "sha256"

Seal = Literal["whole", "edited", "absent"]
"""`absent`: written before contents were hashed."""


def content_sha256(content: Mapping[str, Any]) -> str:
    """Of all keys but the hash's own; order and white space do not enter."""
    own = {key: value for key, value in content.items() if key != KEY}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its hash as the last key."""
    own = {key: value for key, value in content.items() if key != KEY}
    return {**own, KEY: content_sha256(own)}


def seal_of(content: Mapping[str, Any]) -> Seal:
    """Whether the hash that a content carries is its own."""
    if KEY not in content:
        return "absent"
    return "whole" if content[KEY] == content_sha256(content) else "edited"
