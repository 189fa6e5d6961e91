"""One point's work, as a process of its own is handed it and hands it back."""

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
"""Opens the observer of a point, by its name, where the work is done; it is pickled."""


@dataclass(frozen=True)
class Job:
    """A run to do. Every path is absolute: another process, or another machine, does it."""

    point: str
    recipe: Recipe
    name: str
    """Of the recipe, for the report."""
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
    """Where points are run."""

    def check(self) -> None:
        """Whether there is a place to run anything, as far as can be told at once.

        Raises:
            NumpruneError: there is none.
        """
        ...

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Failure | None]]:
        """Do every job, whatever becomes of the others, and tell each as it ends.

        Raises:
            NumpruneError: there is no place to run them at all.
        """
        ...


def work(job: Job) -> Failure | None:
    """Run one point; a failure that has a name is handed back, any other is raised."""
    return _named(job, lambda watching: _run(job, watching))


def learn(job: Job) -> Failure | None:
    """Only what the dense model shows of itself, into the shared folder."""
    return _named(job, lambda watching: _learn(job, watching))


def _run(job: Job, watching: Observer) -> None:
    from numprune_export import pipeline  # PyTorch comes with it: read where the work is done

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
