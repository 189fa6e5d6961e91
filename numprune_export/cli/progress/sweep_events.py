"""Events of a sweep: those of its points, written by their processes, and their outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, TextIO

from numprune_export.cli.progress.events import Events, PointEnded, Reason, Warned
from numprune_export.cli.progress.heartbeat import heartbeat
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import REPORT
from numprune_export.report.pages import html_of, markdown_of
from numprune_export.report.schema import Report
from numprune_export.workflows.sweep.summary import POINTS
from numprune_export.workflows.sweep.work import Failure


class PointWatch:
    """A Watch that writes to the sweep's stream.

    It can be pickled only to a child process, because it passes on the stream's descriptor.
    """

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream, self._quiet = stream, quiet

    @contextmanager
    def __call__(self, point: str) -> Iterator[Observer]:
        events = Events(self._stream, quiet=self._quiet, point=point)
        with heartbeat(events.beat):
            yield events

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (DupFd(self._stream.fileno()), self._quiet)


def _arrived(descriptor: Any, quiet: bool) -> PointWatch:
    stream = open(descriptor.detach(), "w", encoding="utf-8")  # noqa: PTH123, SIM115
    return PointWatch(stream, quiet=quiet)


class PointTeller:
    """A Tell that writes each point's warnings and outcome."""

    def __init__(self, events: Events, folder: Path) -> None:
        self._events, self._folder = events, folder
        self._ended = 0

    def __call__(self, point: str, outcome: Report | Failure) -> None:
        self._ended += 1
        if isinstance(outcome, Failure):
            reason = Reason(message=outcome.message, hint=outcome.hint, exit_code=outcome.exit_code)
            self._events.write(PointEnded(point=point, ended=self._ended, error=reason))
            return
        for warning in outcome.all_warnings:
            self._events.write(Warned(message=warning, point=point))
        path = self._folder / POINTS / point / REPORT
        self._events.write(
            PointEnded(
                point=point,
                ended=self._ended,
                path=str(path),
                markdown=str(markdown_of(path)),
                html=str(html_of(path)),
                summary=outcome.summary,
            )
        )
