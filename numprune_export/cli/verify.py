"""`numprune-export verify`: check a folder against its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    path: Annotated[Path, typer.Argument(help="Run folder, its model, or one of its artifacts.")],
) -> None:
    """Compare file hashes with the manifest, then load the model and run the artifacts.

    Missing, changed and extra files are listed; folders that differ are not opened. No code from
    the folder is run. Without its GPU an engine is only hashed; the output states this.
    """
    from numprune_export.core.errors import IntegrityError
    from numprune_export.provenance import verification
    from numprune_export.report.tables.format import size

    wrong: list[str] = []
    for folder in verification.verify(path):
        wrong += [f"`{difference.name}` {difference.how}" for difference in folder.differences]
        state = "DIFFERS" if folder.differences else folder.opened
        typer.echo(
            f"{folder.place:<28} {folder.files:>3} files {size(folder.size_bytes):>10}  {state}"
        )
    for text in wrong:
        typer.echo(f"  {text}")
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise IntegrityError(
            f"`{path}` does not match its manifest: {wrong[0]}{more}",
            hint="delete extra files; copy the folder again, or repeat the `run` command",
        )
    typer.echo("verified: every file matches its manifest")
