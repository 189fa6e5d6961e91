"""What is expensive to build is built by the first worker that asks for it, for all workers."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` has filled once in the whole test session: this worker's copy of it.

    Workers that need it meanwhile wait. A copy, since commands lock the run that they read.
    """
    base = factory.getbasetemp()
    if base.name.startswith("popen-"):  # a worker's own folder, beside those of the others
        base = base.parent
    folder, finished = base / name, base / f"{name}.finished"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            folder.mkdir()
            make(folder)
            finished.touch()
    return shutil.copytree(folder, factory.mktemp(name) / name, symlinks=True)
