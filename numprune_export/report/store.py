"""Write and read report.json; other files and newer formats are rejected."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from numprune_export.core.errors import InputError
from numprune_export.core.json_text import loads
from numprune_export.report.schema import FORMAT_VERSION, Report
from numprune_export.report.seal import KEY, Seal, seal_of, sealed


def to_json(report: Report) -> str:
    """The text of report.json, including its seal."""
    content = json.loads(report.model_dump_json())
    return json.dumps(sealed(content), indent=2, ensure_ascii=False) + "\n"


def read(path: Path) -> Report:
    """Read a report of this or an earlier format.

    Raises:
        InputError: the file is missing, incomplete, not a report, or written by a newer version.
    """
    return read_sealed(path)[0]


def read_sealed(path: Path) -> tuple[Report, Seal]:
    """Like `read`, but also return the seal's state."""
    content = read_content(path)
    return parse(content, path), seal_of(content)


def read_content(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        InputError: the file is missing, incomplete, or not a JSON object.
    """
    try:
        content = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the report `{path}`: {error}", hint="run the recipe again"
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"`{path}` is not a report: it is not a JSON object",
            hint="give a report.json that numprune-export wrote",
        )
    return content


def parse(content: dict[str, Any], path: Path) -> Report:
    """Validate the content of a report file.

    Args:
        content: Parsed JSON.
        path: Its file, for the message.

    Raises:
        InputError: the content is not a report, or was written by a newer version.
    """
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"`{path}` has report format `{version}`, this version reads up to {FORMAT_VERSION}",
            hint="update numprune-export",
        )
    try:
        return Report.model_validate({key: value for key, value in content.items() if key != KEY})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"`{path}` is not a report: `{where}`: {first['msg'].lower()}",
            hint="give a report.json that numprune-export wrote",
        ) from None
