"""Cache of latency tables, keyed by device, runtime version and model shape, not by weights.

A file that is unreadable, damaged or made for another key is ignored, and the table is measured.
Tables are read from the user's own cache folder only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import NumericalError
from numprune_export.core.stage import key_of
from numprune_export.pruning.allocate.latency.table import LatencyTable

VARIABLE = "NUMPRUNE_EXPORT_CACHE"
"""Environment variable: the cache folder, in place of `$XDG_CACHE_HOME/numprune-export`."""


FORMAT = 1


_NO_TABLE = (ValueError, KeyError, TypeError, AttributeError, NumericalError)


@dataclass(frozen=True)
class Kept:
    """A table from the cache."""

    table: LatencyTable
    age_s: float
    """Seconds since it was measured."""


def cache_folder() -> Path:
    """The user's cache folder."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # By the XDG specification a relative path is invalid and must be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "numprune-export"


def read(key: Mapping[str, Any]) -> Kept | None:
    """The table cached under this key; None if there is no valid one.

    Args:
        key: Everything that a table depends on, JSON-able.
    """
    try:
        content = json.loads(_file(key).read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["digest"] != _digest(key, content["table"]):
            return None
        age_s = max(0.0, time.time() - content["measured_at"])
        return Kept(LatencyTable.from_json(content["table"]), age_s)
    # A user without a home folder raises RuntimeError.
    except (OSError, RuntimeError, *_NO_TABLE):
        return None


def write(key: Mapping[str, Any], table: LatencyTable) -> str | None:
    """Cache a table. Returns None, or the reason for a failure, which does not stop the run."""
    content = table.to_json()
    record = {
        "format": FORMAT, "digest": _digest(key, content), "measured_at": time.time(),
        "key": key, "table": content,
    }  # fmt: skip
    try:
        path = _file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        return str(error)
    return None


def _file(key: Mapping[str, Any]) -> Path:
    return cache_folder() / "latency" / f"{key_of(FORMAT, key)[:32]}.json"


def _digest(key: Mapping[str, Any], table: Any) -> str:
    """Digest of table and key; it detects damaged files and files of another key."""
    return key_of(FORMAT, key, table)
