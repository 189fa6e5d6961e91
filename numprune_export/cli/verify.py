"""`numprune-export verify`: is a folder still what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    path: Annotated[Path, typer.Argument(help="A run folder, its model, or one of its artifacts.")],
) -> None:
    """Hash every file again, compare with the manifest, then load the model and run the artifacts.

    Files that are missing, changed or extra are named, and nothing that differs is opened. No code
    from the folder is run. Without its GPU an engine is only hashed, and the output says so.
    """
    from numprune_export.core.errors import IntegrityError
    from numprune_export.provenance import verification
    from numprune_export.report.tables.format import size

    wrong: list[str] = []
    for one in verification.verify(path):
        wrong += [f"`{it.name}` {it.how}" for it in one.differences]
        state = "DIFFERS" if one.differences else one.opened
        typer.echo(f"{one.place:<28} {one.files:>3} files {size(one.size_bytes):>10}  {state}")
    for text in wrong:
        typer.echo(f"  {text}")
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise IntegrityError(
            f"`{path}` is not what was written: {wrong[0]}{more}",
            hint="delete what is extra; copy the folder again, or give the same `run` command again",
        )
    typer.echo("verified: every file is what was written")
