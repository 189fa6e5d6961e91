"""Logits of a streamed language model: teacher-forced, all windows through one block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.core.halving import in_parts
from numprune_export.data.corpus import Windows
from numprune_export.export.runner import Logits, Tokens
from numprune_export.models import block_runner
from numprune_export.models.block_runner import Progress
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

    def logits_of(
        self, tokens: Tokens, batch: int, tick: Progress = lambda windows: None
    ) -> Iterator[Logits]:
        """fp32 logits at every position, (batch, length, vocabulary), batch by batch in order; a
        batch in parts if the device is full.

        Args:
            tokens: (windows, length), without padding.
            batch: Windows per batch.
            tick: Called with a number of windows, all of them in total, as they pass the blocks.
        """
        lengths = np.full(len(tokens), tokens.shape[1])
        windows = Windows(tokens, lengths)
        with torch.no_grad():
            passed, blocks = 0, len(self._family.block_list(self._model))

            def count(rows: int) -> None:
                nonlocal passed
                before, passed = passed // blocks, passed + rows
                tick(passed // blocks - before)

            batches = block_runner.through_blocks(self._model, self._family, windows, batch, count)
            batches.reverse()
            for rows in windows.by_length(batch):  # all alike: in order
                hidden, texts = batches.pop().hidden, windows.rows(rows)

                def run(rows: slice, texts: Windows = texts, hidden: Tensor = hidden) -> Logits:
                    output = block_runner.after(
                        self._model, self._family, texts.part(rows), hidden[rows]
                    )
                    logits: Logits = output.logits.float().cpu().numpy()
                    return logits

                yield from in_parts(len(rows), run)
