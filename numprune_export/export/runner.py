"""What runs an exported model: runners of decoders and encoders. Importing it costs no torch."""

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
    """A loaded decoder with its KV cache on the device. A context manager: it holds memory.

    Padding belongs to the runner: callers give right-padded rows and their true lengths.
    """

    def __enter__(self) -> DecoderRunner: ...
    def __exit__(self, *exc: object) -> None: ...

    def prefill(
        self, tokens: Tokens, lengths: Tokens | None = None, *, all_positions: bool = False
    ) -> Logits:
        """Start new sequences, forgetting any earlier ones.

        Args:
            tokens: (batch, length); row b is real up to lengths[b] and ignored after it.
            lengths: (batch,), each from 1 to length; None: every row is full.
            all_positions: return logits after every token instead of each row's last real one.

        Returns:
            fp32 logits, (batch, vocabulary), or (batch, length, vocabulary) with all_positions
            (values at padded positions are undefined).
        """
        ...

    def decode(self, tokens: Tokens) -> Logits:
        """Append one token per sequence.

        Args:
            tokens: (batch,), as many rows as the last prefill had.

        Returns:
            fp32 logits for the next token, (batch, vocabulary).
        """
        ...


@runtime_checkable
class AccountsMemory(Protocol):
    """A runner on a device of its own, which can say what it holds there."""

    def device_memory(self) -> Mapping[str, int]:
        """Bytes on the device now: of `weights`, `activations` and `kv_cache` those it knows."""
        ...


@runtime_checkable
class EncoderRunner(Protocol):
    """A loaded encoder. A context manager: it holds memory."""

    def __enter__(self) -> EncoderRunner: ...
    def __exit__(self, *exc: object) -> None: ...

    def forward(
        self, tokens: Tokens, lengths: Tokens | None = None, types: Tokens | None = None
    ) -> Logits:
        """Run a batch of texts.

        Args:
            tokens: (batch, length); row b is real up to lengths[b] and ignored after it.
            lengths: (batch,), each from 1 to length; None: every row is full.
            types: (batch, length), the token types of a pair of texts; None: all 0.

        Returns:
            fp32 logits, (batch, classes) for the task `sequence`, else (batch, length, classes)
            (values at padded positions are undefined).
        """
        ...
