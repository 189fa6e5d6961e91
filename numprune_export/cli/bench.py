"""`numprune-export bench`: latency and memory of runs, artifacts and models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numprune_export.cli.options import NewReport, Quiet, Samples, Search, Threads

if TYPE_CHECKING:
    from numprune_export.workflows.remeasure.rerun import Protocol


def bench(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Finished runs, artifacts, or models (folder, .gguf, hub id, package:…).",
            metavar="RUN|ARTIFACT|MODEL...",
        ),
    ],
    samples: Samples = None,
    threads: Threads = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Only this target of a run; may be repeated.", show_default=False),
    ] = None,
    out: NewReport = None,
    search: Search = None,
    quiet: Quiet = False,
) -> None:
    """Remeasure latency and memory of finished runs with the benchmark settings of their recipes.

    The new report is written beside the old one; `check` accepts it. Models and artifacts are timed
    one by one with default settings; `compare` times several in interleaved rounds.
    """
    from numprune_export.core.errors import RecipeError
    from numprune_export.core.run_folder import MARKER
    from numprune_export.workflows.remeasure.known import require_known

    if out is not None and len(what) > 1:
        raise RecipeError(
            f"`--out` names one file, but there are {len(what)} reports", hint="omit `--out`"
        )
    require_known(what)
    # Imported here: it imports PyTorch, and wrong names are reported without it.
    from numprune_export.workflows.remeasure.rerun import Protocol

    protocol = Protocol(samples, threads, tuple(target or ()))
    for name in what:
        if (Path(name) / MARKER).is_file():
            _run(Path(name), protocol, out, search or [], quiet=quiet)
        else:
            _other(name, protocol, out, quiet=quiet)


def _run(
    run: Path, protocol: Protocol, out: Path | None, search: list[Path], *, quiet: bool
) -> None:
    from numprune_export.cli.progress.closing import echo_report_paths
    from numprune_export.cli.progress.console import observer
    from numprune_export.report import sections
    from numprune_export.workflows.remeasure import new_report, rerun
    from numprune_export.workflows.remeasure.finished_run import opened

    with observer(quiet=quiet) as watching, opened(run) as finished:
        report = rerun.benchmark(finished, protocol, search, watching)
        place = new_report.place_of(run, out, report)
        new_report.write(place, report)
    for text in (
        sections.speedup(report.metrics),
        sections.latency(report.metrics),
        sections.sides(report.metrics, "memory"),
    ):
        if text:
            typer.echo(f"{text}\n")
    for name, why in report.not_run.items():
        typer.echo(f"not measured: {name}: {why}", err=True)
    echo_report_paths(place, json=True)


def _other(what: str, protocol: Protocol, out: Path | None, *, quiet: bool) -> None:
    from numprune_export.cli.progress.console import observer
    from numprune_export.workflows.remeasure import compare, compare_output, new_report

    with observer(quiet=quiet) as watching:
        comparison = compare.compare([what], protocol, text=None, observer=watching, memory=True)
    if out is not None:
        new_report.write_text(out, compare_output.to_json(comparison))
    typer.echo(compare_output.render(comparison))
