"""Logits of a streamed model for the proof that its checkpoint reloads, computed on the way.

They are computed on the CPU, as in the fresh process: logits of two kinds of devices differ in their
last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.device import CPU, on
from numprune_export.models.family import Family
from numprune_export.numerics.matmul_precision import plain


class CarriedProof:
    """Runs the proof's tokens through each pruned block while it is in memory."""

    def __init__(self, model: nn.Module, family: Family, tokens: Tensor) -> None:
        """
        Args:
            model: The streamed dense model on the CPU, whose embedding, final norm and head do not
                change.
            family: Its declaration, of a decoder.
            tokens: (batch, length), int64, without padding.
        """
        rows, length = tokens.shape
        self._model, self._family = model, family
        self._windows = Windows(tokens.numpy(), np.full(rows, length))
        with plain():
            self._batches = block_runner.prepare_batches(model, family, self._windows, rows)

    def add(self, block: nn.Module, index: int) -> None:
        """Run the tokens through a block on any device, as the fresh process does."""

        def no_tick(_: int) -> None:
            return

        with plain():
            block_runner.advance(on(block, CPU), index, self._batches, no_tick)

    def logits(self) -> Tensor:
        """Logits at every position, on the CPU, (batch, length, vocabulary)."""
        with torch.no_grad(), plain():
            hidden = self._batches[0].hidden
            output: Any = block_runner.after(self._model, self._family, self._windows, hidden)
        logits: Tensor = output.logits.cpu().contiguous()
        return logits
