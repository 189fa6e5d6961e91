"""Parity with a streamed decoder: one pass through its blocks for all prompts.

The reference is teacher-forced: attention is causal, so that one pass over a prompt and its
continuation has the logits of prefill and of every decode step. For greedy text it is forced along
the candidate's tokens: up to the first difference, they are its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.data.corpus import Windows
from numprune_export.export.runner import DecoderRunner, Logits, Tokens
from numprune_export.measure.parity.decoder import (
    Parity,
    Prompt,
    Shape,
    greedy,
    prompts,
    shaped,
    tallied,
)
from numprune_export.models import block_runner
from numprune_export.models.family import Family

BATCH = 8
"""Rows at once."""


def compare_streamed(
    reference: tuple[PreTrainedModel, Family],
    candidate: DecoderRunner,
    tokens: Tokens,
    *,
    steps: int,
    shapes: Sequence[Shape] = (),
) -> Parity:
    """As `decoder.compare`.

    Args:
        reference: A streamed model and its family.
        candidate: An open runner.
        tokens: See `decoder.compare`.
        steps: See `decoder.compare`.
        shapes: See `decoder.compare`.

    Raises:
        InputError: as `decoder.compare`.
    """
    asked = tuple(prompts(tokens, steps))
    got = {prompt.name: greedy(candidate, prompt.tokens, prompt.lengths, steps) for prompt in asked}
    compiled = tuple(shaped(shape, tokens) for shape in shapes)
    chosen = {name: tokens for name, (_, tokens) in got.items()}
    expected = TeacherForced(*reference, (*asked, *compiled), chosen)
    return tallied(expected, candidate, asked, got, compiled)


class TeacherForced:
    """See `decoder.Expected`."""

    def __init__(
        self,
        model: PreTrainedModel,
        family: Family,
        asked: Sequence[Prompt],
        chosen: Mapping[str, Tokens],
    ) -> None:
        """
        Args:
            model: A streamed model, whose blocks are read once.
            family: Its declaration.
            asked: All prompts.
            chosen: Greedy tokens of the candidate, (batch, steps), by the prompt's name.
        """
        self._model, self._family, self._chosen = model, family, chosen
        self._first: dict[tuple[str, str], int] = {}
        rows: list[Tokens] = []
        for prompt in asked:
            for kind, after in (
                ("forced", prompt.continuation),
                ("greedy", chosen.get(prompt.name)),
            ):
                if after is not None:
                    self._first[kind, prompt.name] = len(rows)
                    rows += _continued(prompt, after)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        padded = np.zeros((len(rows), int(lengths.max())), dtype=np.int64)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        self._windows = Windows(padded, lengths)
        batches = block_runner.through_blocks(model, family, self._windows, BATCH)
        self._hidden: dict[int, Tensor] = {}
        for places, batch in zip(self._windows.by_length(BATCH), batches, strict=True):
            self._hidden |= {
                int(place): state for place, state in zip(places, batch.hidden, strict=True)
            }

    def forced(self, prompt: Prompt, *, all_positions: bool) -> tuple[Logits, Iterator[Logits]]:
        """See `decoder.Expected.forced`."""
        first = self._first["forced", prompt.name]
        rows = [self._logits(first + row, 0) for row in range(len(prompt.tokens))]
        after = [logits[end - 1 :] for logits, end in zip(rows, prompt.ends, strict=True)]
        steps = (
            np.stack([logits[step + 1] for logits in after])
            for step in range(prompt.continuation.shape[1])
        )
        if not all_positions:
            return np.stack([logits[0] for logits in after]), steps
        whole = np.zeros((*prompt.tokens.shape, rows[0].shape[1]), dtype=rows[0].dtype)
        for into, logits, end in zip(whole, rows, prompt.ends, strict=True):
            into[:end] = logits[:end]
        return whole, steps

    def greedy(self, prompt: Prompt) -> tuple[Logits, Tokens]:
        """See `decoder.Expected.greedy`."""
        first = self._first["greedy", prompt.name]
        rows = [self._logits(first + row, end - 1) for row, end in enumerate(prompt.ends)]
        steps = self._chosen[prompt.name].shape[1]
        return np.stack([logits[0] for logits in rows]), np.stack(
            [logits[:steps].argmax(1) for logits in rows]
        )

    @torch.no_grad()
    def _logits(self, row: int, start: int) -> Logits:
        """Logits of a row from a position on, (length, vocabulary)."""
        stop = int(self._windows.lengths[row])
        part = Windows(self._windows.tokens[row : row + 1, start:stop], np.array([stop - start]))
        hidden = self._hidden[row][None, start:stop]
        output = block_runner.after(self._model, self._family, part, hidden)
        logits: Logits = output.logits[0].float().cpu().numpy()
        return logits


def _continued(prompt: Prompt, after: Tokens) -> list[Tokens]:
    """The real tokens of each row of a prompt, and what follows them."""
    return [
        np.concatenate([row[:end], following])
        for row, end, following in zip(prompt.tokens, prompt.ends, after, strict=True)
    ]
