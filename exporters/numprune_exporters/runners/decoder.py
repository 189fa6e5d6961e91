"""A loaded decoder: checks what it is given, keeps the lengths, leaves the graph to its steps."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.export.artifact import Artifact
from numprune_export.export.runner import Logits, Tokens
from numprune_exporters.runners.inputs import check_vocabulary, integers, lengths_of


class Steps(Protocol):
    """One graph flavour's way to call its runtime and keep its KV cache."""

    def prefill(self, tokens: Tokens, lengths: Tokens, positions: Tokens) -> Logits: ...
    def decode(self, tokens: Tokens, lengths: Tokens) -> Logits: ...


class CheckedRunner:
    """A DecoderRunner over any Steps, which are let go, and their memory with them, at `__exit__`."""

    def __init__(self, steps: Steps, *, vocabulary: int, capacity: int) -> None:
        self._steps: Steps | None = steps
        self._vocabulary = vocabulary
        self._capacity = capacity
        self._lengths: Tokens | None = None

    def __enter__(self) -> CheckedRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        self._steps = self._lengths = None

    def prefill(
        self, tokens: Tokens, lengths: Tokens | None = None, *, all_positions: bool = False
    ) -> Logits:
        """See DecoderRunner.prefill.

        Raises:
            InputError: a wrong shape, length or token, or more tokens than the capacity.
        """
        steps = self._running()
        tokens = integers("tokens", tokens, dimensions=2)
        self._check_capacity(tokens.shape[1])
        lengths = lengths_of(tokens, lengths)
        places = np.arange(tokens.shape[1], dtype=np.int64)[None]
        # A padded position may hold any number, and the embedding would look it up.
        tokens = np.where(places < lengths[:, None], tokens, 0)
        check_vocabulary(tokens, self._vocabulary)
        last = lengths[:, None] - 1
        asked = np.repeat(places, len(tokens), axis=0) if all_positions else last
        self._lengths = None
        logits = steps.prefill(tokens, lengths, asked)
        self._lengths = lengths
        return logits if all_positions else logits[:, 0]

    def decode(self, tokens: Tokens) -> Logits:
        """See DecoderRunner.decode.

        Raises:
            InputError: no prefill came first, another batch, a wrong token, or the cache is full.
        """
        steps = self._running()
        if self._lengths is None:
            raise InputError("decode came before prefill", hint="call `prefill` first")
        tokens = integers("tokens", tokens, dimensions=1)
        if tokens.shape != self._lengths.shape:
            raise InputError(
                f"decode got `{len(tokens)}` tokens for `{len(self._lengths)}` sequences",
                hint="give one token for each row of the last prefill",
            )
        check_vocabulary(tokens, self._vocabulary)
        lengths = self._lengths + 1
        self._check_capacity(int(lengths.max()))
        logits = steps.decode(tokens, lengths)
        self._lengths = lengths
        return logits[:, 0]

    def _running(self) -> Steps:
        if self._steps is None:
            raise InputError("this runner is closed", hint="open the artifact again")
        return self._steps

    def _check_capacity(self, length: int) -> None:
        if length > self._capacity:
            raise InputError(
                f"a sequence of `{length}` tokens exceeds the capacity of `{self._capacity}`",
                hint="open the artifact with a larger capacity",
            )


def require_capacity(artifact: Artifact, capacity: int | None) -> int:
    """The capacity that an artifact is opened with, which must be a decoder's.

    Raises:
        InputError: the artifact holds an encoder, or the capacity is not given.
    """
    if artifact.network != "decoder":
        raise InputError(
            f"`{artifact.folder}` holds an {artifact.network}, which `{artifact.target}` cannot run",
            hint="export the model to a target that takes it",
        )
    if capacity is None:
        raise InputError(
            f"`{artifact.folder}` holds a decoder, which has no room without a capacity",
            hint="give `capacity`: the longest sequence it will hold, in tokens",
        )
    return capacity
