"""PyTorch as a runner: the reference for parity, and the baseline of the latency tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from numprune_export.artifact import Logits, Tokens
from numprune_export.errors import InputError


class TorchRunner:
    """Any Hugging Face causal language model as a `DecoderRunner`, with a DynamicCache.

    Right-padded rows are turned into left-padded ones, with attention mask and position ids, so
    that all rows end at the same index and every row's result is what it is alone. Full rows go
    without a mask. The vocabulary projection is computed for the asked positions only.
    """

    def __init__(self, model: PreTrainedModel, *, threads: int | None) -> None:
        """`threads` is set for torch on entry and restored on exit; None leaves it as it is."""
        self._model = model
        self._threads = threads
        self._outer_threads: int | None = None
        self._cache: DynamicCache | None = None
        self._mask: Tensor | None = None
        self._next_positions = torch.empty(0, dtype=torch.int64)

    def __enter__(self) -> TorchRunner:
        if self._threads is not None:
            self._outer_threads = torch.get_num_threads()
            torch.set_num_threads(self._threads)
        return self

    def __exit__(self, *exc: object) -> None:
        self._cache = None
        if self._outer_threads is not None:
            torch.set_num_threads(self._outer_threads)
            self._outer_threads = None

    def prefill(
        self, tokens: Tokens, lengths: Tokens | None = None, *, all_positions: bool = False
    ) -> Logits:
        """See `DecoderRunner.prefill`.

        Raises:
            InputError: `lengths` is not one number from 1 to the row length per row.
        """
        batch, length = tokens.shape
        lengths = np.full(batch, length, np.int64) if lengths is None else lengths
        _check_lengths(lengths, batch, length)
        padding = length - lengths
        index = np.arange(length) - padding[:, None]  # position of each column, negative: padding
        shifted = np.take_along_axis(tokens, np.maximum(index, 0), axis=1)
        positions = torch.from_numpy(np.maximum(index, 0))
        self._mask = torch.from_numpy((index >= 0).astype(np.int64)) if padding.any() else None
        self._next_positions = torch.from_numpy(lengths.astype(np.int64))
        self._cache = DynamicCache(config=self._model.config)
        logits = self._forward(torch.from_numpy(shifted), positions, 0 if all_positions else 1)
        if not all_positions:
            return logits[:, -1]
        back = (np.arange(length) + padding[:, None]) % length
        return np.take_along_axis(logits, back[:, :, None], axis=1)

    def decode(self, tokens: Tokens) -> Logits:
        """See `DecoderRunner.decode`.

        Raises:
            InputError: no prefill came before, or it had another number of rows.
        """
        if self._cache is None or len(tokens) != len(self._next_positions):
            raise InputError(
                f"decode got `{len(tokens)}` rows, the last prefill had"
                f" `{len(self._next_positions)}`",
                hint="give one token per row of the last prefill",
            )
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        logits = self._forward(torch.from_numpy(tokens)[:, None], self._next_positions[:, None], 1)
        self._next_positions = self._next_positions + 1
        return logits[:, -1]

    @torch.inference_mode()
    def _forward(self, tokens: Tensor, positions: Tensor, logits_to_keep: int) -> Logits:
        device = self._model.device
        output: Any = self._model(
            input_ids=tokens.to(device),
            attention_mask=None if self._mask is None else self._mask.to(device),
            position_ids=positions.to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )
        logits: Logits = output.logits.float().cpu().numpy()
        return logits


def _check_lengths(lengths: Tokens, batch: int, length: int) -> None:
    if lengths.shape != (batch,) or lengths.min() < 1 or lengths.max() > length:
        raise InputError(
            f"row lengths `{lengths.tolist()}` do not fit a batch of {batch} rows of {length}",
            hint="give each row a length from 1 to the row's own",
        )
