"""Arguments and options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeName = Annotated[str, typer.Argument(help="Recipe file, or name of a shipped recipe.")]

ExportTargets = Annotated[
    list[str] | None,
    typer.Option(help="Export to this target instead of the recipe's; may be repeated."),
]

Device = Annotated[
    str | None,
    typer.Option(
        help="Prune and evaluate there: `auto`, `cpu`, `cuda` or `cuda:N`; as `--set device=...`.",
        show_default=False,
    ),
]

EventStream = Annotated[
    bool, typer.Option("--json", help="Write events to stdout, one JSON object per line.")
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show progress.")]

Samples = Annotated[
    int | None, typer.Option(min=5, help="Number of timed rounds.", show_default=False)
]

Threads = Annotated[
    int | None, typer.Option(min=1, help="Number of CPU threads.", show_default=False)
]

Search = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder searched for relative paths of the recipe; may be repeated.",
        show_default=False,
    ),
]

NewReport = Annotated[
    Path | None,
    typer.Option(
        help="JSON file of the new report; its pages are written beside it."
        " [default: report-<UTC time>.json in the run]",
        show_default=False,
    ),
]


def with_device(assignments: list[str] | None, device: str | None) -> tuple[str, ...]:
    """The changes of a recipe by `--set` and `--device`."""
    return *(assignments or ()), *(() if device is None else (f"device={device}",))
