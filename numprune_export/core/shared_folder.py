"""Stages that several runs have in common: made by the first that needs one, found by the others.

Any number of processes may work in such a folder at a time, on one machine or on several that mount
its disk: each stage is guarded by a lock of its own, and who comes second waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from numprune_export.core.run_folder import RunFolder, Stage, key_of


@dataclass(frozen=True)
class SharedFolder:
    """Stages lie in it under their place and a part of their key."""

    path: Path

    def stage(
        self, name: str, where: str, key: str, make: Callable[[Path], None], *, variant: str = ""
    ) -> Stage:
        """As `RunFolder.stage`.

        Args:
            name: What it is called.
            where: Its place in a run.
            key: Over all inputs.
            make: Fills an empty folder.
            variant: What else tells equal keys variant, such as the GPU that an engine is built for.
        """
        place = f"{where}-{key_of(key, variant)[:16]}"
        guard = self.path / f".{place.replace('/', '.')}.lock"
        guard.parent.mkdir(parents=True, exist_ok=True)
        with _turn(guard):
            return RunFolder(self.path).stage(name, place, key, make)


@contextmanager
def _turn(guard: Path) -> Iterator[None]:
    """Wait until no other process holds this file, and hold it."""
    with guard.open("a") as file:
        _wait(file)
        yield


def _wait(file: IO[str]) -> None:
    if os.name == "nt":  # no flock: there two processes may make the same stage, and one fails
        return
    import fcntl

    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
