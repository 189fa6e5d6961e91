"""What this distribution declares of itself: its version, and the names it registers.

Installed packages say so in their metadata. A plain checkout on PYTHONPATH has none, and an editable
install has what pyproject.toml said when it was made; so where pyproject.toml lies beside the
package, it is read, and what it says of this distribution comes before the metadata.
"""

from __future__ import annotations

import difflib
import re
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from numprune_export.core.errors import RecipeError

NAME = "numprune-export"

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_ASSIGNMENT = re.compile(r'([A-Za-z0-9_-]+) = "([^"\\]*)"(?:\s*#.*)?')


def own_version() -> str:
    """The version of this code."""
    project = _checkout()
    return version(NAME) if project is None else _section(project, "project")["version"]


def make(group: str, kind: str, name: str) -> Any:
    """What an entry point of a group names, called; no other one is imported.

    Args:
        kind: What the group's entries are, for the message.

    Raises:
        RecipeError: there is none of this name.
    """
    entries = registered(group)
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1)
        raise RecipeError(
            f"unknown {kind} `{name}`",
            hint=f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(entries))}",
        )
    return entries[name].load()()


def registered(group: str) -> dict[str, EntryPoint]:
    """Every entry point of a group, by name: of all that is installed, and of this checkout."""
    entries = {entry.name: entry for entry in entry_points(group=group)}
    project = _checkout()
    if project is not None:
        own = _section(project, f'project.entry-points."{group}"')
        # Metadata of an older install may still name what this checkout no longer has.
        entries = {
            name: entry
            for name, entry in entries.items()
            if entry.dist is None or entry.dist.name != NAME
        }
        entries |= {name: EntryPoint(name, value, group) for name, value in own.items()}
    return entries


def installed_version(name: str) -> str | None:
    """The version of a distribution, None where it is not there; ours is `own_version`."""
    if name == NAME:
        return own_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _checkout() -> str | None:
    """The text of this distribution's pyproject.toml, None where the package is not in a checkout."""
    if not _PROJECT.is_file():
        return None
    text = _PROJECT.read_text(encoding="utf-8")
    return text if _section(text, "project").get("name") == NAME else None


def _section(text: str, header: str) -> dict[str, str]:
    """`name = "value"` lines of one TOML table; its other lines are skipped.

    Python 3.10 has no TOML parser. This reads what our own pyproject.toml says in that one form, and
    a test compares it with a real parser.
    """
    _, separator, rest = f"\n{text}".partition(f"\n[{header}]\n")
    body = (
        re.split(r"^\[[^\]]+\]\s*$", rest, maxsplit=1, flags=re.MULTILINE)[0] if separator else ""
    )
    matches = (_ASSIGNMENT.fullmatch(line.strip()) for line in body.splitlines())
    return {match[1]: match[2] for match in matches if match}
