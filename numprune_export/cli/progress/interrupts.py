"""Ctrl-C: the first one stops the run, and the next ones do not disturb it in tidying up."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

INTERRUPTED = 130
"""Exit code."""

GRACE_S = 10.0
"""After so long a further Ctrl-C counts again: the first one may have been lost in foreign code."""

_PATIENCE = b"\nstopping: the unfinished stage is being removed\n"


@contextmanager
def stopping_once() -> Iterator[None]:
    """KeyboardInterrupt at the first Ctrl-C; those of the next seconds are answered with a line.

    Where Ctrl-C is ignored, as in a shell's background, it stays ignored.
    """
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
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except KeyboardInterrupt:
        # The process is about to end, and Python gives up its handlers before it does.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise
    except BaseException:
        signal.signal(signal.SIGINT, before)
        raise
    signal.signal(signal.SIGINT, before)


@contextmanager
def held_back() -> Iterator[None]:
    """A Ctrl-C of the meantime counts at the end: what raises in PyTorch's extension modules while they
    are being loaded ends the process with a crash."""
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
def told_how_to_go_on() -> Iterator[None]:
    """Answer Ctrl-C with the command that goes on, and the exit code."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            "interrupted: whole stages are kept, and this command goes on after the last of them:\n"
            f"  {command_line()}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def command_line() -> str:
    """The command that this process was started with, as a shell takes it."""
    program = Path(sys.argv[0])
    start = [_shortest(program)]
    if program.suffix == ".py":
        safe = ["-P"] if getattr(sys.flags, "safe_path", False) else []
        start = [_shortest(Path(sys.executable)), *safe, "-m", "numprune_export"]
    return shlex.join([*start, *sys.argv[1:]])


def _shortest(program: Path) -> str:
    """Its name if a shell finds it by that, else its path."""
    found = shutil.which(program.name)
    return program.name if found and Path(found).samefile(program) else str(program)
