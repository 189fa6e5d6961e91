"""Points one after the other on this machine, each in a process of its own.

So one that is killed for its memory takes no other with it, and each is timed in a fresh process.
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
"""How long an interrupted point may take to tidy up."""


class Local:
    """See Executor."""

    def __init__(self, do: Work = work) -> None:
        self._do = do

    def check(self) -> None:
        """See Executor.check: this machine is here."""
        return

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Failure | None]]:
        """See Executor.run."""
        context = _context()
        for job in jobs:
            yield job, _in_process(context, self._do, job)


def _context() -> BaseContext:
    """Processes forked from one that has read the libraries once; where there is no fork, new ones."""
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
        found: Failure | None = receiver.recv()
        return found
    return _lost(process.exitcode or 0)


def _lost(code: int) -> Failure:
    """A process that ended without a word."""
    if code < 0:
        name = signal.Signals(-code).name
        return Failure(
            f"its process was killed by {name}",
            "if the system killed it for its memory, lower `calibration.batch`",
            1,
        )
    return Failure(
        f"its process ended with exit code {code}",
        "the traceback is above: it is a bug of numprune-export",
        code or 1,
    )


def _stop(process: BaseProcess) -> None:
    """Let the point remove what it has half made, as after Ctrl-C."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
        process.join(_PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _child(do: Work, job: Job, sender: Connection) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # the parent tells of it
        sender.send(do(job))


def _die_with_parent() -> None:
    """A killed sweep leaves no point at work, which would stand in the way of the next sweep."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
