"""Protocols of runners, which execute exported decoders and encoders. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Device = Literal["cpu", "cuda"]

Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]


@runtime_checkable
class DecoderRunner(Protocol):
    """A loaded decoder with its KV cache on the device; a context manager, which frees its memory.

    Callers pass right-padded rows and their true lengths; the runner handles padding.
    """

    def __enter__(self) -> DecoderRunner: ...
    def __exit__(self, *exc: object) -> None: ...

    def prefill(
        self, tokens: Tokens, lengths: Tokens | None = None, *, all_positions: bool = False
    ) -> Logits:
        """Start new sequences and discard the previous ones.

        Args:
            tokens: (batch, length); row b is real up to lengths[b] and ignored after it.
            lengths: (batch,), each from 1 to length; None: every row is full.
            all_positions: Return logits at every position instead of each row's last real token.

        Returns:
            fp32 logits: (batch, vocabulary), or (batch, length, vocabulary) with all_positions;
            values at padded positions are undefined.
        """
        ...

    def decode(self, tokens: Tokens) -> Logits:
        """Append one token per sequence.

        Args:
            tokens: (batch,), with the batch size of the last prefill.

        Returns:
            fp32 logits for the next token, (batch, vocabulary).
        """
        ...


@runtime_checkable
class AccountsMemory(Protocol):
    """A runner that reports the device memory it holds."""

    def device_memory(self) -> Mapping[str, int]:
        """Current bytes on the device, by `weights`, `activations` and `kv_cache`, as far as
        known."""
        ...


@runtime_checkable
class EncoderRunner(Protocol):
    """A loaded encoder; a context manager, which frees its memory."""

    def __enter__(self) -> EncoderRunner: ...
    def __exit__(self, *exc: object) -> None: ...

    def forward(
        self, tokens: Tokens, lengths: Tokens | None = None, types: Tokens | None = None
    ) -> Logits:
        """Run a batch of texts.

        Args:
            tokens: (batch, length); row b is real up to lengths[b] and ignored after it.
            lengths: (batch,), each from 1 to length; None: every row is full.
            types: (batch, length), token types of text pairs; None: all 0.

        Returns:
            fp32 logits: (batch, classes) for the task `sequence`, else (batch, length, classes);
            values at padded positions are undefined.
        """
        ...
