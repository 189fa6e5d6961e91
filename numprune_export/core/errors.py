"""Every error this package raises on purpose, and the exit code the command line gives it.

NumpruneError             base: one line of what, one line of how to fix       exit 1
├── ParityError           a saved or exported model disagrees with PyTorch     exit 1
├── IntegrityError        a file is not what its manifest says                 exit 1
├── RecipeError           the recipe or an option is wrong: fix the YAML       exit 2
├── UnsupportedModelError no family describes this architecture                exit 2
├── MissingExtraError     an optional dependency is not installed              exit 3
├── InputError            a model, text or data file is missing or unusable    exit 4
├── NumericalError        NaN or infinity in weights or activations            exit 5
├── OutputError           the output folder is foreign, busy or full           exit 6
├── HubError              the hub could not be reached or refused the name     exit 7
├── DeviceError           the GPU or its driver is missing, too old or full    exit 8
├── RegressionError       a gate found a regression or a broken limit          exit 9
└── IncomparableError     two reports differ in device, runtime, protocol      exit 10
                          or model, so that one says nothing of the other

Exit 130 is an interrupt (Ctrl-C). A bug in this package is never a NumpruneError: it is an
ordinary exception with a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class NumpruneError(Exception):
    """What went wrong in one line; `hint` says how to fix it in one more."""

    exit_code = 1

    further: tuple[NumpruneError, ...] = ()
    """Other mistakes of the same input; none of them has further ones."""

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
    """One error for all: the first mistake of the recipe, or else the first; the rest are `further`,
    each message once.

    Args:
        errors: At least one; each stands for itself and for its own further ones.
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
    """Gathers errors of checks that do not depend on each other."""

    def __init__(self) -> None:
        self._errors: list[NumpruneError] = []

    def extend(self, errors: Iterable[NumpruneError]) -> None:
        self._errors.extend(errors)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep what the body raises, and go on after it."""
        try:
            yield
        except NumpruneError as error:
            self._errors.append(error)

    def raise_all(self) -> None:
        """
        Raises:
            NumpruneError: `together` of all, if there is any.
        """
        if self._errors:
            raise together(self._errors)
