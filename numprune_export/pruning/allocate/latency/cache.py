"""Latency tables kept for other runs: by device, runtime version and model shape, weights left out.

A file that cannot be read, is damaged or was made for something else is as good as none: the table
is then measured. Tables are times of a machine, not secrets, but they are only read from the user's
own cache folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import NumericalError
from numprune_export.core.run_folder import key_of
from numprune_export.pruning.allocate.latency.table import LatencyTable

VARIABLE = "NUMPRUNE_EXPORT_CACHE"
"""Environment variable: the cache folder, in place of `$XDG_CACHE_HOME/numprune-export`."""


FORMAT = 1


_NO_TABLE = (ValueError, KeyError, TypeError, AttributeError, NumericalError)


@dataclass(frozen=True)
class Kept:
    """A table found in the cache."""

    table: LatencyTable
    age_s: float
    """Since it was measured."""


def cache_folder() -> Path:
    """Where this user's caches are."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative one is invalid by the XDG specification, to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "numprune-export"


def read(key: Mapping[str, Any]) -> Kept | None:
    """The table that was kept under this key, or None if there is none to trust.

    Args:
        key: All that a table depends on, JSON-able.
    """
    try:
        content = json.loads(_file(key).read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["digest"] != _digest(key, content["table"]):
            return None
        age_s = max(0.0, time.time() - content["measured_at"])
        return Kept(LatencyTable.from_json(content["table"]), age_s)
    # A user without a home is a RuntimeError.
    except (OSError, RuntimeError, *_NO_TABLE):
        return None


def write(key: Mapping[str, Any], table: LatencyTable) -> str | None:
    """Keep a table; None, or why it could not be kept: a run goes on without."""
    content = table.to_json()
    record = {
        "format": FORMAT, "digest": _digest(key, content), "measured_at": time.time(),
        "key": key, "table": content,
    }  # fmt: skip
    try:
        place = _file(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        return str(error)
    return None


def _file(key: Mapping[str, Any]) -> Path:
    return cache_folder() / "latency" / f"{key_of(FORMAT, key)[:32]}.json"


def _digest(key: Mapping[str, Any], table: Any) -> str:
    """Of the table and what it is for: another's file, or a damaged one, has another."""
    return key_of(FORMAT, key, table)
