"""Jobs of a sweep, run in other processes or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from numprune_export.core.errors import NumpruneError
from numprune_export.core.progress import Observer
from numprune_export.recipe import Recipe

Watch = Callable[[str], AbstractContextManager[Observer]]
"""Opens the observer of a point, by name, in the process of the job; it must be picklable."""


@dataclass(frozen=True)
class Job:
    """A run to execute. Paths are absolute: another process or machine executes it."""

    point: str
    recipe: Recipe
    name: str
    """Name of the recipe, for the report."""
    folder: Path
    shared: Path
    search: tuple[Path, ...]
    watch: Watch


@dataclass(frozen=True)
class Failure:
    """Why a point has no report."""

    message: str
    hint: str
    exit_code: int


class Executor(Protocol):
    """Runs the points of a sweep."""

    def check(self) -> None:
        """Check quickly whether jobs can be run.

        Raises:
            NumpruneError: jobs cannot be run.
        """
        ...

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Failure | None]]:
        """Run every job, even if others fail, and yield each as it ends.

        Raises:
            NumpruneError: no job can be run.
        """
        ...


def work(job: Job) -> Failure | None:
    """Run one point; a NumpruneError is returned as a Failure, any other exception is raised."""
    return _named(job, lambda watching: _run(job, watching))


def learn(job: Job) -> Failure | None:
    """Compute only statistics and scores of the dense model, into the shared folder."""
    return _named(job, lambda watching: _learn(job, watching))


def _run(job: Job, watching: Observer) -> None:
    from numprune_export import pipeline  # imports PyTorch: only in the process of the job

    pipeline.run(
        job.recipe,
        name=job.name,
        folder=job.folder,
        search=job.search,
        observer=watching,
        shared=job.shared,
    )


def _learn(job: Job, watching: Observer) -> None:
    from numprune_export.pipeline import opening

    opening.learn(
        job.recipe, folder=job.folder, search=job.search, observer=watching, shared=job.shared
    )


def _named(job: Job, do: Callable[[Observer], None]) -> Failure | None:
    try:
        with job.watch(job.point) as watching:
            do(watching)
    except NumpruneError as error:
        return Failure(str(error), error.hint, error.exit_code)
    return None
