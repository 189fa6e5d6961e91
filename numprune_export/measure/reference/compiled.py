"""PyTorch under torch.compile with a static KV cache: the fastest PyTorch baseline."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, StaticLayer

from numprune_export.core.errors import InputError
from numprune_export.export.runner import Logits, Tokens
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.measure.reference.left_padding import LeftPadded, check_rows
from numprune_export.models.kv_cache import cache_argument

Step = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class CompiledTorchRunner:
    """A Hugging Face causal language model under `torch.compile`, with a static KV cache.

    Each shape is compiled on its first use, which takes seconds to minutes: warm up before timing.
    torch.compile raises an error if the model does not compile as one graph, or if there are more
    shapes than it caches (8 of prompts, 8 of decode steps); the model never silently runs slower.
    On CUDA a decode step is one replayed CUDA graph. The cache has `capacity` slots in every layer,
    and each layer its own number of KV heads; attention reads all slots under a mask, which also
    implements a sliding window. With `all_positions` the model runs uncompiled.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        capacity: int,
        threads: int | None = None,
        backend: str = "inductor",
    ) -> None:
        """`backend` is a backend of torch.compile; `threads` as for `TorchRunner`."""
        self._model = model
        self._capacity = capacity
        self._outer = TorchRunner(model, threads=threads)
        self._cache: Cache | None = None
        self._cache_argument = cache_argument(model)
        self._rows = 0
        self._used = 0
        self._mask: Tensor | None = None
        self._positions = torch.empty(0, dtype=torch.int64)
        graphs = backend == "inductor" and model.device.type == "cuda"
        # CUDA graphs for decode only: each prompt length would need its own graph.
        mode = "reduce-overhead" if graphs else None
        self._prompt = torch.compile(
            self._last_position(), backend=backend, fullgraph=True, dynamic=False
        )
        self._step = torch.compile(
            self._last_position(), backend=backend, fullgraph=True, mode=mode, dynamic=False
        )

    def __enter__(self) -> CompiledTorchRunner:
        self._outer.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._cache = None
        self._outer.__exit__(*exc)

    def prefill(
        self, tokens: Tokens, lengths: Tokens | None = None, *, all_positions: bool = False
    ) -> Logits:
        """See `DecoderRunner.prefill`.

        Raises:
            InputError: the prompt does not fit the capacity, or `lengths` the prompt.
        """
        rows, device = LeftPadded.of(tokens, lengths), self._model.device
        self._require_room(tokens.shape[1])
        self._start(len(tokens))
        self._mask = None if rows.mask is None else self._slots(rows.mask)
        positions = torch.from_numpy(rows.positions).to(device)
        logits = self._run(
            self._forward_all if all_positions else self._prompt, rows.tokens, positions
        )
        self._positions = torch.from_numpy(rows.lengths).to(device)[:, None]
        self._used = tokens.shape[1]
        return rows.to_right(logits) if all_positions else logits[:, -1]

    def decode(self, tokens: Tokens) -> Logits:
        """See `DecoderRunner.decode`.

        Raises:
            InputError: there was no prefill, its number of rows differs, or the cache is full.
        """
        check_rows(len(tokens), 0 if self._cache is None else self._rows)
        self._require_room(self._used + 1)
        logits = self._run(self._step, tokens[:, None], self._positions)
        self._positions = self._positions + 1
        self._used += 1
        return logits[:, -1]

    def _start(self, rows: int) -> None:
        """Empty the cache for this number of rows, keeping its memory addresses if possible."""
        if self._cache is None or rows != self._rows:
            self._cache, self._rows = None, rows
            blocks = range(self._model.config.num_hidden_layers)
            cache = Cache(layers=[StaticLayer(max_cache_len=self._capacity) for _ in blocks])
            with torch.no_grad():  # each layer allocates its tensors at the first token
                self._model(
                    input_ids=torch.zeros(rows, 1, dtype=torch.int64, device=self._model.device),
                    **{self._cache_argument: cache},
                    use_cache=True,
                )
            self._cache = cache
        self._cache.reset()

    def _slots(self, real: Any) -> Tensor:
        """Mask of non-padding cache slots, (rows, capacity); unused slots are true."""
        mask = np.ones((self._rows, self._capacity), np.bool_)
        mask[:, : real.shape[1]] = real
        return torch.from_numpy(mask).to(self._model.device)

    @torch.no_grad()
    def _run(self, step: Step, tokens: Tokens, positions: Tensor) -> Logits:
        ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(self._model.device)
        logits: Logits = step(ids, positions, self._mask).cpu().numpy()
        return logits

    def _last_position(self) -> Step:
        """A function for the logits after the last token, with its own code object.

        torch.compile caches by code object and checks the entries one after another. Sharing a code
        object would slow down every call and soon reach the recompilation limit.
        """

        def last(tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
            return self._forward(tokens, positions, mask, 1)

        code = last.__code__.replace()
        own: Step = FunctionType(code, last.__globals__, closure=last.__closure__)
        return own

    def _forward_all(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        return self._forward(tokens, positions, mask, 0)

    def _forward(
        self, tokens: Tensor, positions: Tensor, mask: Tensor | None, logits_to_keep: int
    ) -> Tensor:
        output: Any = self._model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            **{self._cache_argument: self._cache},
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )
        logits: Tensor = output.logits.float()
        return logits

    def _require_room(self, length: int) -> None:
        if length > self._capacity:
            raise InputError(
                f"a sequence of `{length}` tokens does not fit the cache of {self._capacity}",
                hint="open the runner with a larger capacity",
            )
