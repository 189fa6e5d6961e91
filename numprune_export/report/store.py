"""report.json as text, and back: what is not a report, or a newer one, is refused."""

import json
from pathlib import Path

from pydantic import ValidationError

from numprune_export.errors import InputError
from numprune_export.report.schema import FORMAT_VERSION, Report


def to_json(report: Report) -> str:
    """The text of report.json."""
    return report.model_dump_json(indent=2) + "\n"


def read(path: Path) -> Report:
    """Read a report of this or an earlier format.

    Raises:
        InputError: not there, not whole, not a report, or written by a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"cannot read the report `{path}`: {error}", hint="make the run again"
        ) from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"`{path}` has report format `{version}`, this version reads up to {FORMAT_VERSION}",
            hint="update numprune-export",
        )
    try:
        return Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"`{path}` is not a report: `{where}`: {first['msg'].lower()}",
            hint="give a report.json that numprune-export wrote",
        ) from None
