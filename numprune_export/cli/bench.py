"""`numprune-export bench`: latency and memory, once more or of anything."""

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
            help="Folders of finished runs; artifacts; models (folder, .gguf, hub id, package:…).",
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
    """Measure latency and memory of finished runs again, by their recipes' protocol.

    A run's new report lies beside the old one, and `check` takes it. Models and artifacts are timed
    by the default protocol, each by itself; `compare` times several in interleaved rounds.
    """
    from numprune_export.core.errors import RecipeError
    from numprune_export.core.run_folder import MARKER
    from numprune_export.workflows.remeasure.known import require_known

    if out is not None and len(what) > 1:
        raise RecipeError(
            f"`--out` is one file, and there are {len(what)} reports", hint="leave it out"
        )
    require_known(what)
    # Not above: PyTorch comes with it, and wrong names are answered without it.
    from numprune_export.workflows.remeasure.rerun import Protocol

    protocol = Protocol(samples, threads, tuple(target or ()))
    for one in what:
        if (Path(one) / MARKER).is_file():
            _run(Path(one), protocol, out, search or [], quiet=quiet)
        else:
            _other(one, protocol, out, quiet=quiet)


def _run(
    run: Path, protocol: Protocol, out: Path | None, search: list[Path], *, quiet: bool
) -> None:
    from numprune_export.cli.progress.closing import told_where
    from numprune_export.cli.progress.console import observer
    from numprune_export.report import sections
    from numprune_export.workflows.remeasure import new_report, rerun
    from numprune_export.workflows.remeasure.finished_run import opened

    with observer(quiet=quiet) as watching, opened(run) as found:
        report = rerun.benchmark(found, protocol, search, watching)
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
    told_where(place, json=True)


def _other(what: str, protocol: Protocol, out: Path | None, *, quiet: bool) -> None:
    from numprune_export.cli.progress.console import observer
    from numprune_export.workflows.remeasure import compare, compare_output, new_report

    with observer(quiet=quiet) as watching:
        found = compare.compare([what], protocol, text=None, observer=watching, memory=True)
    if out is not None:
        new_report.write_text(out, compare_output.to_json(found))
    typer.echo(compare_output.render(found))
