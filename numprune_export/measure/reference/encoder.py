"""PyTorch encoder runner: the reference for parity and the baseline for latency."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from numprune_export.core.errors import InputError
from numprune_export.export.runner import Logits, Tokens
from numprune_export.models.family import Family


class TorchEncoderRunner:
    """Any Hugging Face encoder of a declared family, with its task head, as an `EncoderRunner`.

    Full rows run without a mask, PyTorch's fastest path. Padded positions hold the padding token.
    """

    def __init__(self, model: PreTrainedModel, family: Family, *, threads: int | None) -> None:
        """`threads` is set for torch on entry and restored on exit; None leaves it as it is."""
        self._model = model
        self._family = family
        self._threads = threads
        self._outer_threads: int | None = None

    def __enter__(self) -> TorchEncoderRunner:
        if self._threads is not None:
            self._outer_threads = torch.get_num_threads()
            torch.set_num_threads(self._threads)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._outer_threads is not None:
            torch.set_num_threads(self._outer_threads)
            self._outer_threads = None

    @torch.inference_mode()
    def forward(
        self, tokens: Tokens, lengths: Tokens | None = None, types: Tokens | None = None
    ) -> Logits:
        """See EncoderRunner.forward.

        Raises:
            InputError: `lengths` is not one number from 1 to the row length per row.
        """
        real = _real(tokens, lengths)
        padding: int = self._model.config.pad_token_id or 0
        device = self._model.device
        inputs = self._family.inputs(
            torch.from_numpy(np.where(real, tokens, padding)).to(device),
            torch.from_numpy(real).to(device),
            None if types is None else torch.from_numpy(np.where(real, types, 0)).to(device),
        )
        if real.all():
            inputs["attention_mask"] = None
        return _logits(self._model(**inputs))


def _real(tokens: Tokens, lengths: Tokens | None) -> NDArray[np.bool_]:
    """Mask (batch, length), False at padding."""
    if lengths is None:
        return np.ones(tokens.shape, np.bool_)
    batch, longest = tokens.shape
    if lengths.shape != (batch,) or lengths.min() < 1 or lengths.max() > longest:
        raise InputError(
            f"lengths `{lengths.tolist()}` do not fit tokens of shape `{tokens.shape}`",
            hint=f"give `{batch}` lengths from 1 to `{longest}`",
        )
    real: NDArray[np.bool_] = np.arange(longest) < lengths[:, None]
    return real


def _logits(output: Any) -> Logits:
    """Logits in the layout of `EncoderRunner`: span start and end stacked in the last axis."""
    if hasattr(output, "start_logits"):
        raw = torch.stack([output.start_logits, output.end_logits], dim=-1)
    else:
        raw = output.logits
    logits: Logits = raw.float().cpu().numpy()
    return logits
