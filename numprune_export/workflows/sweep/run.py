"""Run a sweep: every point that is not finished, and the summary after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from numprune_export.core.run_folder import RunFolder, open_folder
from numprune_export.core.stage import key_of
from numprune_export.pipeline.opening import check
from numprune_export.report.schema import Report
from numprune_export.workflows.sweep import page, plot, record
from numprune_export.workflows.sweep.points import Point
from numprune_export.workflows.sweep.record import Sweep
from numprune_export.workflows.sweep.summary import POINTS, Outcomes, read_report, summarize
from numprune_export.workflows.sweep.work import Executor, Failure, Job, Watch

MARKER = ".numprune-sweep"
SHARED = "shared"

Tell = Callable[[str, Report | Failure], None]
"""Called as each point ends, with its name and outcome."""


def sweep(
    name: str,
    points: Sequence[Point],
    *,
    folder: Path,
    executor: Executor,
    watch: Watch,
    tell: Tell,
) -> Sweep:
    """Run or resume every point, and compare them.

    Args:
        name: Name of the recipe.
        points: Points to run, in order.
        folder: Sweep folder: new, empty, or of an earlier sweep. `shared/` holds results that all
            points use, `points/<name>/` the run of each point. sweep.json, sweep.md and sweep.svg
            are rewritten after every point.
        executor: Runs the points.
        watch: Opens the observer of a point.
        tell: Called as each point ends.

    Raises:
        NumpruneError: no point can be run; see `errors`. A failed point raises nothing.
    """
    executor.check()
    for point in _kinds(points):
        check(point.recipe, search=point.search)
    with open_folder(folder, MARKER) as own:
        place = folder.resolve()
        (place / SHARED).mkdir(exist_ok=True)
        reports: dict[str, Report] = {}
        failures: dict[str, Failure] = {}
        jobs = [_job(point, name, place, watch) for point in points]
        by_name = {point.name: point for point in points}
        result = _write(own, name, points, Outcomes(reports, failures))
        for job, failure in executor.run(jobs):
            if failure is None:
                reports[job.point] = read_report(place, by_name[job.point])
            else:
                failures[job.point] = failure
            result = _write(own, name, points, Outcomes(reports, failures))
            tell(job.point, failure or reports[job.point])
    return result


def _kinds(points: Sequence[Point]) -> list[Point]:
    """One point per distinct recipe, ignoring the budget."""
    kinds = {
        key_of(point.recipe.model_dump(mode="json", exclude={"keep"})): point
        for point in points[::-1]
    }
    return list(kinds.values())[::-1]


def _job(point: Point, name: str, folder: Path, watch: Watch) -> Job:
    return Job(
        point=point.name,
        recipe=point.recipe,
        name=name,
        folder=folder / POINTS / point.name,
        shared=folder / SHARED,
        search=point.search,
        watch=watch,
    )


def _write(own: RunFolder, name: str, points: Sequence[Point], outcomes: Outcomes) -> Sweep:
    result = summarize(name, points, outcomes)
    own.write(record.NAME, record.to_json(result))
    own.write(page.NAME, page.render(result))
    picture = plot.draw(result)
    if picture is not None:
        own.write(page.PLOT, picture)
    return result
