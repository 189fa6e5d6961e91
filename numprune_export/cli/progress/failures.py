"""Write the error that ended a command as its last event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from numprune_export.cli.progress.events import Events, Failed, Reason
from numprune_export.cli.progress.interrupts import INTERRUPTED, command_line
from numprune_export.core.errors import NumpruneError


@contextmanager
def failure_events(events: Events) -> Iterator[None]:
    """Write an exception as an event, and re-raise it."""
    try:
        yield
    except KeyboardInterrupt:
        events.write(_failed("Interrupted", "interrupted", INTERRUPTED, command_line()))
        raise
    except NumpruneError as error:
        event = _failed(type(error).__name__, str(error), error.exit_code, None, error.hint)
        events.write(event.model_copy(update={"further": tuple(map(_reason, error.further))}))
        raise
    except Exception as error:
        events.write(_failed(type(error).__name__, str(error), 1, None))
        raise  # a bug: the traceback goes to stderr


def _reason(error: NumpruneError) -> Reason:
    return Reason(message=str(error), hint=error.hint, exit_code=error.exit_code)


def _failed(
    kind: str, message: str, exit_code: int, resume: str | None, hint: str | None = None
) -> Failed:
    return Failed(kind=kind, message=message, hint=hint, exit_code=exit_code, resume=resume)
