"""Arguments and options that several commands share, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeName = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")]

ExportTargets = Annotated[
    list[str] | None,
    typer.Option(help="Export to this target instead of the recipe's; may be repeated."),
]

EventStream = Annotated[
    bool, typer.Option("--json", help="Events on stdout, one JSON object a line.")
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]

Samples = Annotated[int | None, typer.Option(min=5, help="Timed rounds.", show_default=False)]

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default=False)]

Search = Annotated[
    list[Path] | None,
    typer.Option(
        help="A folder that the recipe's relative paths are looked up in; may be repeated.",
        show_default=False,
    ),
]

NewReport = Annotated[
    Path | None,
    typer.Option(
        help="The new report, JSON; its pages lie beside it."
        " [default: report-<UTC time>.json in the run]",
        show_default=False,
    ),
]
