"""Which code is running: its version, and the git commit where it runs from a checkout."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from numprune_export.core.settings import Strict
from numprune_export.core.version import __version__

ROOT = Path(__file__).parents[2]
SOURCES = ("numprune_export", "exporters", "pyproject.toml")
_PATIENCE_S = 10


class Code(Strict):
    """No path and no name of a person is in it."""

    version: str
    commit: str | None = None
    """Of the checkout that it runs from; None where it was installed, or git does not tell."""
    modified: bool | None = None
    """Whether tracked sources differ from that commit."""


@cache
def running(root: Path = ROOT) -> Code:
    """This code. `root` is a checkout only if git's own folder lies in it: a repository around an
    installed package is somebody else's."""
    if not (root / ".git").exists():
        return Code(version=__version__)
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return Code(version=__version__)
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *SOURCES)
    modified = None if changes is None else bool(changes)
    return Code(version=__version__, commit=commit, modified=modified)


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, or None: it is not installed, or does not trust the checkout's owner."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
