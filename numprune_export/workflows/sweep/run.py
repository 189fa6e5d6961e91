"""The sweep itself: every point run or found, and compared after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from numprune_export.core.run_folder import RunFolder, key_of, open_folder
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
"""Told of each point as it ends: its name and what came of it."""


def sweep(
    name: str,
    points: Sequence[Point],
    *,
    folder: Path,
    executor: Executor,
    watch: Watch,
    tell: Tell,
) -> Sweep:
    """Run every point, or what is left of it, and compare them.

    Args:
        name: Of the recipe.
        points: What to run, in order.
        folder: The sweep's: new, empty, or an earlier sweep's. `shared/` in it has what all points
            need, `points/<name>/` each point's run, and sweep.json, sweep.md and sweep.svg what came
            of them; these are written anew after every point.
        executor: Where points are run.
        watch: Opens the observer of a point.
        tell: Told of each point as it ends.

    Raises:
        NumpruneError: nothing can be run; see `errors`. A point that fails raises nothing.
    """
    executor.check()
    for one in _kinds(points):
        check(one.recipe, search=one.search)
    with open_folder(folder, MARKER) as own:
        place = folder.resolve()
        (place / SHARED).mkdir(exist_ok=True)
        reports: dict[str, Report] = {}
        failures: dict[str, Failure] = {}
        jobs = [_job(one, name, place, watch) for one in points]
        by_name = {one.name: one for one in points}
        found = _write(own, name, points, Outcomes(reports, failures))
        for job, failure in executor.run(jobs):
            if failure is None:
                reports[job.point] = read_report(place, by_name[job.point])
            else:
                failures[job.point] = failure
            found = _write(own, name, points, Outcomes(reports, failures))
            tell(job.point, failure or reports[job.point])
    return found


def _kinds(points: Sequence[Point]) -> list[Point]:
    """One point of each kind that differs in more than its budget."""
    kinds = {
        key_of(one.recipe.model_dump(mode="json", exclude={"keep"})): one for one in points[::-1]
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
    found = summarize(name, points, outcomes)
    own.write(record.NAME, record.to_json(found))
    own.write(page.NAME, page.render(found))
    picture = plot.draw(found)
    if picture is not None:
        own.write(page.PLOT, picture)
    return found
