"""Stages shared by several runs: computed by the first run that needs them, reused by the others.

Any number of processes may use the folder at the same time, also from several machines that mount
the same disk: each stage has its own lock, and the second process waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from numprune_export.core.run_folder import RunFolder
from numprune_export.core.stage import Stage, key_of


@dataclass(frozen=True)
class SharedFolder:
    """A folder of shared stages, each named by its path in a run and a prefix of its key."""

    path: Path

    def stage(
        self, name: str, where: str, key: str, make: Callable[[Path], None], *, variant: str = ""
    ) -> Stage:
        """Return a finished stage, as `RunFolder.stage` does.

        Args:
            name: Stage name.
            where: Stage folder relative to a run.
            key: Hash of all inputs.
            make: Fills an empty folder.
            variant: Distinguishes stages with equal keys, for example the GPU of an engine.
        """
        place = _place(where, key, variant)
        guard = self.path / f".{place.replace('/', '.')}.lock"
        guard.parent.mkdir(parents=True, exist_ok=True)
        with _turn(guard):
            return RunFolder(self.path).stage(name, place, key, make)

    def begun(self, where: str, key: str) -> bool:
        """As RunFolder.begun."""
        return RunFolder(self.path).begun(_place(where, key, ""), key)


def _place(where: str, key: str, variant: str) -> str:
    return f"{where}-{key_of(key, variant)[:16]}"


@contextmanager
def _turn(guard: Path) -> Iterator[None]:
    """Context manager: hold the exclusive lock on this file; wait for it first."""
    with guard.open("a") as file:
        _wait(file)
        yield


def _wait(file: IO[str]) -> None:
    if os.name == "nt":  # no flock: two processes may compute the same stage, and one then fails
        return
    import fcntl

    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
