"""A new report of a finished run: new metrics, and old metrics that still apply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from numprune_export.core.errors import OutputError
from numprune_export.core.metric import Metrics
from numprune_export.core.run_folder import RunFolder
from numprune_export.measure.environment import Environment, describe
from numprune_export.recipe import Recipe
from numprune_export.report import markdown, pages, store
from numprune_export.report.html import page
from numprune_export.report.schema import Report, measurements
from numprune_export.report.verdict import summarize

_MACHINE = ("machine", "cpu", "gpus", "usable_cores", "memory_bytes", "packages")


def new_report(
    old: Report,
    recipe: Recipe,
    metrics: Metrics,
    measured: Sequence[str],
    *,
    warnings: Sequence[str] = (),
    not_run: Mapping[str, str] | None = None,
    samples: Mapping[str, tuple[float, ...]] | None = None,
) -> Report:
    """Combine new metrics with the old report, as input of a gate.

    Old metrics that were not remeasured are kept if machine and packages are unchanged, and dropped
    otherwise; a warning lists them.

    Args:
        old: Report of the run.
        recipe: Recipe with the benchmark settings used now.
        metrics: New metrics.
        measured: Remeasured kinds, such as `latency`; old metrics of these kinds are dropped.
        warnings: Warnings of the measurement.
        not_run: Reason per part that could not be measured.
        samples: Latency samples in ms, by name.
    """
    here, then = describe(), f"{old.created.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    rest = {
        name: measurement
        for name, measurement in old.metrics.items()
        if name.partition(".")[0] not in measured
    }
    kinds = ", ".join(dict.fromkeys(name.partition(".")[0] for name in rest))
    same = _same_machine(old.environment, here)
    note = f"Measured now: {', '.join(measured)}. "
    note += (
        f"Carried over from {then}: {kinds}."
        if same
        else f"Left out, because machine or packages differ from those of {then}: {kinds}."
    )
    merged = {**(rest if same else {}), **measurements(metrics)}
    missing = {**old.not_run, **(not_run or {})}
    return old.model_copy(
        update={
            "created": datetime.now(timezone.utc),
            "metrics": merged,
            "summary": summarize(merged, missing, old.plan_warnings),
            "warnings": (note, *warnings),
            "not_run": missing,
            "recipe": json.loads(recipe.model_dump_json()),
            "environment": here,
            "latency_samples": dict(samples or {}),
        }
    )


def _same_machine(old: Environment, here: Environment) -> bool:
    return all(getattr(old, key) == getattr(here, key) for key in _MACHINE)


def place_of(run: Path, out: Path | None, report: Report) -> Path:
    """Path of a new report: `out`, or a time-stamped file in the run folder."""
    return out or run / f"report-{report.created.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}.json"


def write(path: Path, report: Report) -> None:
    """Write a report and its pages.

    Raises:
        OutputError: a file cannot be written, or `path` is also the name of a page.
    """
    if path.suffix in (pages.MARKDOWN, pages.HTML):
        raise OutputError(
            f"`--out {path}` names the report's JSON file, but a page of it has the same name",
            hint=f"for example `--out {path.with_suffix('.json')}`: pages are written beside it",
        )
    write_text(path, store.to_json(report))
    write_text(pages.markdown_of(path), markdown.render(report))
    write_text(pages.html_of(path), page.render(report))


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        RunFolder(path.parent).write(path.name, text)
    except OSError as error:
        raise OutputError(
            f"cannot write `{path}`: {error.strerror}", hint="choose another `--out`"
        ) from None
