"""Errors of other people's parsers on a user's file, turned into ones that name the file.

A parser fails on damaged input with whatever its code trips over: TypeError, IndexError,
RecursionError. Which ones cannot be listed. What counts is where an error was raised: inside a library
it is blamed on the input; in a call of this package that reaches no library it is a bug.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from numprune_export.core.errors import InputError, NumpruneError

_OURS = ("numprune_export", "numprune_exporters")


@contextmanager
def blamed_on_input(
    what: str, *, hint: str, also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn an error of a library that reads user input into an InputError.

    The block should hold the foreign call and little else. A MemoryError stays what it is: too large
    for this machine is not damaged.

    Args:
        what: Begins the message, and the foreign message ends it: "`config.json` is not valid".
        hint: How to fix the input.
        also: Errors that mean bad input wherever they were raised, by a C function for example, which
            has no frame of its own.

    Raises:
        InputError: a library raised an error.
    """
    try:
        yield
    except (NumpruneError, MemoryError):
        raise
    except Exception as error:
        if not isinstance(error, also) and not _passed_a_library(error.__traceback__):
            raise
        raise InputError(f"{what}: {first_line(error)}", hint=hint) from error


def first_line(error: Exception) -> str:
    """The start of a foreign message, fit to end one of ours; the class of an error without one.

    >>> first_line(ValueError("wrong.\\nmore"))
    'wrong'
    >>> first_line(ValueError("in `a`:\\n    wrong"))
    'in `a`: wrong'
    """
    first, _, rest = str(error).strip().partition("\n")
    if first.endswith(":") and rest:
        first = f"{first} {rest.strip().partition(chr(10))[0]}"
    return first.rstrip(".:") or type(error).__name__


def _passed_a_library(trace: TracebackType | None) -> bool:
    """Whether the error came through code that is not ours, below the guarded block."""
    assert trace is not None
    frame = trace.tb_next and trace.tb_next.tb_next  # after `yield` above and the block itself
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _OURS:
            return True
        frame = frame.tb_next
    return False
