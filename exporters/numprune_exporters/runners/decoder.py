"""Runner of a decoder: checks inputs and tracks lengths; its `Steps` run the graph."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.export.artifact import Artifact
from numprune_export.export.runner import Logits, Tokens
from numprune_exporters.runners.inputs import check_vocabulary, integers, lengths_of


class Steps(Protocol):
    """Calls one flavour of graph in its runtime and holds its KV cache."""

    def prefill(self, tokens: Tokens, lengths: Tokens, positions: Tokens) -> Logits: ...
    def decode(self, tokens: Tokens, lengths: Tokens) -> Logits: ...


class CheckedRunner:
    """A DecoderRunner over any Steps; `__exit__` releases them and their memory."""

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
        # A padded position may hold any number; 0 is a valid index of the embedding.
        tokens = np.where(places < lengths[:, None], tokens, 0)
        check_vocabulary(tokens, self._vocabulary)
        last = lengths[:, None] - 1
        positions = np.repeat(places, len(tokens), axis=0) if all_positions else last
        self._lengths = None
        logits = steps.prefill(tokens, lengths, positions)
        self._lengths = lengths
        return logits if all_positions else logits[:, 0]

    def decode(self, tokens: Tokens) -> Logits:
        """See DecoderRunner.decode.

        Raises:
            InputError: decode before prefill, another batch size, a wrong token, or a full cache.
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
    """The capacity for opening a decoder artifact.

    Raises:
        InputError: the artifact holds an encoder, or the capacity is missing.
    """
    if artifact.network != "decoder":
        raise InputError(
            f"`{artifact.folder}` holds an {artifact.network}, which `{artifact.target}` cannot run",
            hint="export the model to a target that supports encoders",
        )
    if capacity is None:
        raise InputError(
            f"`{artifact.folder}` holds a decoder, which needs a capacity",
            hint="give `capacity`: the longest sequence in tokens, prompt and generated",
        )
    return capacity
