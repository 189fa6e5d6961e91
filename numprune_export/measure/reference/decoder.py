"""PyTorch decoder runner: the reference for parity and the baseline for latency."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from numprune_export.export.runner import Logits, Tokens
from numprune_export.measure.reference.left_padding import LeftPadded, check_rows
from numprune_export.models.kv_cache import cache_argument


class TorchRunner:
    """Any Hugging Face causal language model as a `DecoderRunner`, with a DynamicCache.

    Right-padded rows are converted to left-padded rows, with attention mask and position ids, so
    that all rows end at the same index and each row's result equals that of the row alone. Full
    rows run without a mask. The vocabulary projection is computed for the requested positions only. Only
    the tokens of a step and its logits are copied between host and device.
    """

    def __init__(self, model: PreTrainedModel, *, threads: int | None) -> None:
        """`threads` is set for torch on entry and restored on exit; None leaves it as it is."""
        self._model = model
        self._threads = threads
        self._outer_threads: int | None = None
        self._cache: DynamicCache | None = None
        self._cache_argument = cache_argument(model)
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
        rows, device = LeftPadded.of(tokens, lengths), self._model.device
        self._mask = None if rows.mask is None else torch.from_numpy(rows.mask).to(device)
        self._next_positions = torch.from_numpy(rows.lengths).to(device)
        self._cache = DynamicCache(config=self._model.config)
        positions = torch.from_numpy(rows.positions).to(device)
        logits = self._forward(rows.tokens, positions, 0 if all_positions else 1)
        return rows.to_right(logits) if all_positions else logits[:, -1]

    def decode(self, tokens: Tokens) -> Logits:
        """See `DecoderRunner.decode`.

        Raises:
            InputError: there was no prefill, or its number of rows differs.
        """
        check_rows(len(tokens), 0 if self._cache is None else len(self._next_positions))
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        logits = self._forward(tokens[:, None], self._next_positions[:, None], 1)
        self._next_positions = self._next_positions + 1
        return logits[:, -1]

    @torch.inference_mode()
    def _forward(self, tokens: Tokens, positions: Tensor, logits_to_keep: int) -> Logits:
        output: Any = self._model(
            input_ids=torch.from_numpy(tokens).to(self._model.device),
            attention_mask=self._mask,
            position_ids=positions,
            **{self._cache_argument: self._cache},
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )
        logits: Logits = output.logits.float().cpu().numpy()
        return logits
