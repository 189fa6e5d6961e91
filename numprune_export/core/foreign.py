"""Turn exceptions of third-party parsers into InputErrors that name the user's file.

On damaged input a parser can raise any exception: TypeError, IndexError, RecursionError. The
traceback decides: an exception raised inside a library is attributed to the input; an exception
raised by this package's own code is a bug.
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
    """Context manager: turn an exception of a library that reads user input into an InputError.

    The body should hold the library call and little else. A MemoryError passes unchanged: the input
    is too large, not damaged.

    Args:
        what: Start of the message, for example "`config.json` is not valid"; the library's message
            follows.
        hint: How to fix the input.
        also: Exceptions that always mean bad input, for example those of C functions, which have no
            frame in the traceback.

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
    """The first line of an exception's message, without final `.` or `:`; or its class name.

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
    """Whether the traceback, below the guarded block, has a frame outside this package."""
    assert trace is not None
    frame = trace.tb_next and trace.tb_next.tb_next  # after `yield` above and the block itself
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _OURS:
            return True
        frame = frame.tb_next
    return False
