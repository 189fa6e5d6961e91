"""Runners that can be reopened in place, for timings over several sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, TypeVar

from numprune_export.export.runner import DecoderRunner, EncoderRunner, Logits, Tokens

R = TypeVar("R")
Own = TypeVar("Own", bound="Reopened[Any]")


class Reopened(Generic[R]):
    """Holds an open runner and can replace it with a new runner of the same artifact."""

    def __init__(self, opener: Callable[[], AbstractContextManager[Any]]) -> None:
        """
        Args:
            opener: Opens a runner of this class's kind; an artifact's `network` is its kind.
        """
        self._opener = opener
        self._stack = ExitStack()
        self._runner: R | None = None

    def open(self) -> None:
        self._runner = self._stack.enter_context(self._opener())

    def close(self) -> None:
        self._runner = None
        self._stack.close()

    @property
    def runner(self) -> R:
        assert self._runner is not None, "not open"
        return self._runner

    def __enter__(self: Own) -> Own:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ReopenedDecoder(Reopened[DecoderRunner]):
    """See DecoderRunner."""

    def prefill(
        self, tokens: Tokens, lengths: Tokens | None = None, *, all_positions: bool = False
    ) -> Logits:
        return self.runner.prefill(tokens, lengths, all_positions=all_positions)

    def decode(self, tokens: Tokens) -> Logits:
        return self.runner.decode(tokens)


class ReopenedEncoder(Reopened[EncoderRunner]):
    """See EncoderRunner."""

    def forward(
        self, tokens: Tokens, lengths: Tokens | None = None, types: Tokens | None = None
    ) -> Logits:
        return self.runner.forward(tokens, lengths, types)


def reopener(runners: Sequence[Reopened[R]]) -> Callable[[], None]:
    """A callback that closes all runners and opens them again, in reversed order each time.

    The order matters: the runner opened first gets the memory that was freed last.
    """
    order = list(runners)

    def reopen() -> None:
        for runner in order:
            runner.close()
        order.reverse()
        for runner in order:
            runner.open()

    return reopen
