"""Run the points of a sweep one after the other on this machine, each in its own process.

A point that runs out of memory does not affect the others, and each is timed in a fresh process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from numprune_export.core.fresh_process import empty_working_folder
from numprune_export.workflows.sweep.work import Failure, Job, work

Work = Callable[[Job], Failure | None]

_PATIENCE_S = 20.0
"""Time an interrupted point has to clean up."""


class Local:
    """Executor on this machine, one point at a time."""

    def __init__(self, do: Work = work) -> None:
        self._do = do

    def check(self) -> None:
        """See Executor.check. This machine is always available."""
        return

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Failure | None]]:
        """See Executor.run."""
        context = _context()
        for job in jobs:
            yield job, _in_process(context, self._do, job)


def _context() -> BaseContext:
    """A fork server with the libraries preloaded; spawned processes where fork is unavailable."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numprune_export.pipeline"])
    return context


def _in_process(context: BaseContext, do: Work, job: Job) -> Failure | None:
    receiver, sender = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=_child, args=(do, job, sender))  # type: ignore[attr-defined]
    with empty_working_folder():  # the first start also starts the server that forks
        process.start()
    sender.close()
    try:
        process.join()
    except BaseException:
        _stop(process)
        raise
    with contextlib.suppress(EOFError), receiver:
        failure: Failure | None = receiver.recv()
        return failure
    return _lost(process.exitcode or 0)


def _lost(code: int) -> Failure:
    """Failure of a process that ended without a result."""
    if code < 0:
        name = signal.Signals(-code).name
        return Failure(
            f"its process was killed by {name}",
            "if it ran out of memory, lower `calibration.batch`",
            1,
        )
    return Failure(
        f"its process ended with exit code {code}",
        "this is a bug of numprune-export: report the traceback above",
        code or 1,
    )


def _stop(process: BaseProcess) -> None:
    """Interrupt the point so that it removes its unfinished stage; kill it after a timeout."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
        process.join(_PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _child(do: Work, job: Job, sender: Connection) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # the parent reports it
        sender.send(do(job))


def _die_with_parent() -> None:
    """Exit with the sweep, so that no running point blocks the next sweep."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
