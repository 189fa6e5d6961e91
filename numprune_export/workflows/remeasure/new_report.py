"""A new report of an old run: what was measured now, and what still holds of before."""

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
    """A report that a gate can judge.

    What is not measured now is carried over where machine and packages are the same, and left out
    elsewhere; a warning says which.

    Args:
        old: The run's.
        recipe: With the protocol that was followed now.
        metrics: Found now.
        measured: Kinds that are measured now, such as `latency`: nothing of them is carried over.
        warnings: Of the measurement.
        not_run: What could not be measured now, and why.
        samples: Latency samples.
    """
    here, then = describe(), f"{old.created.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    rest = {
        name: one for name, one in old.metrics.items() if name.partition(".")[0] not in measured
    }
    kinds = ", ".join(dict.fromkeys(name.partition(".")[0] for name in rest))
    same = _same_machine(old.environment, here)
    note = f"Measured now: {', '.join(measured)}. "
    note += (
        f"Carried over from {then}: {kinds}."
        if same
        else f"Left out, because the machine or its packages are not those of {then}: {kinds}."
    )
    found = {**(rest if same else {}), **measurements(metrics)}
    missing = {**old.not_run, **(not_run or {})}
    return old.model_copy(
        update={
            "created": datetime.now(timezone.utc),
            "metrics": found,
            "summary": summarize(found, missing, old.plan_warnings),
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
    """Where it is written: beside the old one, unless the caller says else."""
    return out or run / f"report-{report.created.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}.json"


def write(path: Path, report: Report) -> None:
    """The report, and its pages beside it.

    Raises:
        OutputError: it cannot be written, or would be written over by a page of it.
    """
    if path.suffix in (pages.MARKDOWN, pages.HTML):
        raise OutputError(
            f"`--out {path}` is for the report's JSON, and a page of it would have that name",
            hint=f"for example `--out {path.with_suffix('.json')}`: the pages lie beside it",
        )
    write_text(path, store.to_json(report))
    write_text(pages.markdown_of(path), markdown.render(report))
    write_text(pages.html_of(path), page.render(report))


def write_text(path: Path, text: str) -> None:
    """
    Raises:
        OutputError: it cannot be written.
    """
    try:
        RunFolder(path.parent).write(path.name, text)
    except OSError as error:
        raise OutputError(
            f"cannot write `{path}`: {error.strerror}", hint="choose another `--out`"
        ) from None
