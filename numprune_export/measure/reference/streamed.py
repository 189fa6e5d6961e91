"""Logits of a streamed language model: teacher-forced, all windows through one block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from transformers import PreTrainedModel

from numprune_export.data.corpus import Windows
from numprune_export.export.runner import Logits, Tokens
from numprune_export.models import block_runner
from numprune_export.models.family import Family


class StreamedLm:
    """A streamed causal language model as the reference of perplexity. It generates nothing: each
    token would read all weights again."""

    def __init__(self, model: PreTrainedModel, family: Family) -> None:
        self._model, self._family = model, family

    def __enter__(self) -> StreamedLm:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def logits_of(self, tokens: Tokens, batch: int) -> Iterator[Logits]:
        """fp32 logits at every position, (batch, length, vocabulary), batch by batch in order.

        Args:
            tokens: (windows, length), without padding.
            batch: Windows per batch.
        """
        lengths = np.full(len(tokens), tokens.shape[1])
        windows = Windows(tokens, lengths)
        with torch.no_grad():
            batches = block_runner.through_blocks(self._model, self._family, windows, batch)
            batches.reverse()
            for rows in windows.by_length(batch):  # all alike: in order
                hidden = batches.pop().hidden
                output = block_runner.after(self._model, self._family, windows.rows(rows), hidden)
                logits: Logits = output.logits.float().cpu().numpy()
                yield logits
