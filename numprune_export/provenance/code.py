"""Identify the running code: its version, and the git commit of its checkout."""

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
    """Version and commit of the running code; it holds no paths and no personal names."""

    version: str
    commit: str | None = None
    """Commit of the checkout; None if installed from a package, or if git fails."""
    modified: bool | None = None
    """Whether tracked sources differ from the commit; None if unknown."""


@cache
def running(root: Path = ROOT) -> Code:
    """The running code. `root` counts as a checkout only if `.git` lies directly in it: a
    repository around an installed package belongs to another project."""
    if not (root / ".git").exists():
        return Code(version=__version__)
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return Code(version=__version__)
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *SOURCES)
    modified = None if changes is None else bool(changes)
    return Code(version=__version__, commit=commit, modified=modified)


def _git(root: Path, *arguments: str) -> str | None:
    """Standard output of git; None if git is not installed or fails, e.g. on an untrusted owner."""
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
