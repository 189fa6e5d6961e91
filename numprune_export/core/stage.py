"""A stage of a run, its key, and the ways in which it is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numprune_export.core.stage_cost import StageCost
from numprune_export.core.stage_record import Record, StageRecord


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    key: str
    folder: Path
    seconds: float
    """Wall time of computing it, in this run or an earlier one."""
    resumed: bool
    """True if it was reused and not computed."""
    files: Record = field(default_factory=dict)
    """Its files, without those written into the folder later."""
    cost: StageCost | None = None
    """Of computing it, in this run or an earlier one; None: an earlier version computed it."""

    @property
    def record(self) -> StageRecord:
        """The content of its stage.json."""
        return StageRecord(self.key, self.seconds, self.files, self.cost)


def key_of(*parts: Any) -> str:
    """Hex SHA-256 of everything a stage depends on.

    Args:
        parts: JSON-serializable; other objects enter by `str`.
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class InParts:
    """Makes a stage part by part: an interrupted stage goes on after its finished parts.

    Every file in the folder is whole: a part is written under another name and then renamed.
    """

    make: Callable[[Path], None]
    """Fills a folder that may have parts of an earlier attempt with the same key."""

    def __call__(self, folder: Path) -> None:
        self.make(folder)


@dataclass(frozen=True)
class Together:
    """Makes a stage with all processes of the run; the first one writes it."""

    make: Callable[[Path], None]
    """Called by every process; the folder of all but the first is thrown away."""

    def __call__(self, folder: Path) -> None:
        self.make(folder)
