"""Ctrl-C: the first one stops the run; further ones do not interrupt its cleanup."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from numprune_export.core.progress import Observer

INTERRUPTED = 130
"""Exit code."""

GRACE_S = 10.0
"""Seconds after which a further Ctrl-C counts again: native code may have swallowed the first."""

_unanswered = threading.Event()
"""Set from Ctrl-C until its exception has left the command."""

_PATIENCE = b"\nstopping: the unfinished stage is being removed\n"


@contextmanager
def stopping_once() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first Ctrl-C; print a line for those within `GRACE_S`.

    If Ctrl-C is ignored, as in a background job of a shell, it stays ignored.
    """
    _unanswered.clear()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    stopped = -GRACE_S

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        now = time.monotonic()
        if now - stopped < GRACE_S:
            os.write(2, _PATIENCE)
            return
        stopped = now
        _unanswered.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except KeyboardInterrupt:
        # Python removes its signal handlers before the process has ended.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise
    except BaseException:
        signal.signal(signal.SIGINT, before)
        raise
    signal.signal(signal.SIGINT, before)


class Stoppable:
    """An observer that raises KeyboardInterrupt again at the next step if a destructor, a callback or
    native code has swallowed that of Ctrl-C."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def begin(self, stage: str) -> None:
        _require_answered()
        self._observer.begin(stage)

    def expect(self, steps: int) -> None:
        self._observer.expect(steps)

    def advance(self, steps: int) -> None:
        _require_answered()
        self._observer.advance(steps)

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        _require_answered()
        self._observer.end(stage, seconds, resumed=resumed)

    def warn(self, message: str) -> None:
        self._observer.warn(message)


def _require_answered() -> None:
    """Other threads go on: the main thread stops them."""
    if _unanswered.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """Delay Ctrl-C until the context ends: an exception while PyTorch loads its extension modules
    crashes the process."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[0])


@contextmanager
def resume_hint() -> Iterator[None]:
    """On Ctrl-C, print the command that resumes, and exit with `INTERRUPTED`."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            "interrupted: finished stages are kept; this command resumes after the last of them:\n"
            f"  {command_line()}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def command_line() -> str:
    """Command line of this process, quoted for a shell."""
    program = Path(sys.argv[0])
    start = [_shortest(program)]
    if program.suffix == ".py":
        safe = ["-P"] if getattr(sys.flags, "safe_path", False) else []
        start = [_shortest(Path(sys.executable)), *safe, "-m", "numprune_export"]
    return shlex.join([*start, *sys.argv[1:]])


def _shortest(program: Path) -> str:
    """Name of a program if it is on PATH, else its path."""
    on_path = shutil.which(program.name)
    return program.name if on_path and Path(on_path).samefile(program) else str(program)
