"""Exceptions that this package raises on purpose, with the exit codes of the command line.

NumpruneError             base: a one-line message and a one-line hint         exit 1
├── ParityError           a saved or exported model disagrees with PyTorch     exit 1
├── IntegrityError        a file does not match its manifest                   exit 1
├── RecipeError           the recipe or an option is wrong: fix the YAML       exit 2
├── UnsupportedModelError no family describes this architecture                exit 2
├── MissingExtraError     an optional dependency is not installed              exit 3
├── InputError            a model, text or data file is missing or unusable    exit 4
├── NumericalError        NaN or infinity in weights or activations            exit 5
├── OutputError           the output folder is foreign, busy or full           exit 6
├── HubError              the hub is unreachable or rejected the name          exit 7
├── DeviceError           the GPU or its driver is missing, too old or full    exit 8
├── RegressionError       a gate found a regression or a broken limit          exit 9
└── IncomparableError     two reports differ in device, runtime, protocol      exit 10
                          or model and cannot be compared

Exit 130 is an interrupt (Ctrl-C). A bug in this package is never a NumpruneError: it is an
ordinary exception with a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class NumpruneError(Exception):
    """Base class: a one-line message, and a one-line `hint` that says how to fix the problem."""

    exit_code = 1

    further: tuple[NumpruneError, ...] = ()
    """Other errors in the same input; their own `further` is empty."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ParityError(NumpruneError):
    exit_code = 1


class IntegrityError(NumpruneError):
    exit_code = 1


class RecipeError(NumpruneError):
    exit_code = 2


class UnsupportedModelError(NumpruneError):
    exit_code = 2


class MissingExtraError(NumpruneError):
    exit_code = 3


class InputError(NumpruneError):
    exit_code = 4


class NumericalError(NumpruneError):
    exit_code = 5


class OutputError(NumpruneError):
    exit_code = 6


class HubError(NumpruneError):
    exit_code = 7


class DeviceError(NumpruneError):
    exit_code = 8


class RegressionError(NumpruneError):
    exit_code = 9


class IncomparableError(NumpruneError):
    exit_code = 10


def together(errors: Sequence[NumpruneError]) -> NumpruneError:
    """Combine several errors into one.

    The result is the first RecipeError, or the first error if there is none. The others become its
    `further`; duplicate messages are dropped.

    Args:
        errors: Not empty. The `further` errors of each are included.
    """
    singles: dict[str, NumpruneError] = {}
    for error in errors:
        for single in (error, *error.further):
            singles.setdefault(str(single), single)
    first, *rest = sorted(singles.values(), key=lambda error: not isinstance(error, RecipeError))
    for error in rest:
        error.further = ()
    first.further = tuple(rest)
    return first


class Mistakes:
    """Collects the errors of independent checks, to report them together."""

    def __init__(self) -> None:
        self._errors: list[NumpruneError] = []

    def extend(self, errors: Iterable[NumpruneError]) -> None:
        self._errors.extend(errors)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Context manager: store a NumpruneError raised by the body and continue after it."""
        try:
            yield
        except NumpruneError as error:
            self._errors.append(error)

    def raise_all(self) -> None:
        """Raise the collected errors, combined by `together`; do nothing if there are none."""
        if self._errors:
            raise together(self._errors)
