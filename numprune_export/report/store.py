"""Reading and writing report.json: whole or not at all."""

import json
import os
from pathlib import Path

from pydantic import ValidationError

from numprune_export.errors import InputError, OutputError
from numprune_export.report.schema import FORMAT_VERSION, Report


def write(report: Report, path: Path) -> None:
    """Replace `path` in one step: a reader sees the old file or the whole new one.

    Raises:
        OutputError: it could not be written.
    """
    write_text(report.model_dump_json(indent=2) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """As `write`, for any text."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write `{path}`: {error.strerror}", hint="check the folder and free space"
        ) from None


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
