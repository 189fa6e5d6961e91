"""Models in another precision or on another device, and PyTorch's rounding error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from numprune_export.export.runner import Logits, Tokens
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.measure.reference.streamed import StreamedLm
from numprune_export.models.device import on
from numprune_export.models.families import family_of
from numprune_export.models.residency import Changed, source_of, stream


@contextmanager
def computing_in(
    model: PreTrainedModel, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Iterator[PreTrainedModel]:
    """The model in another dtype or on another device within a `with` statement.

    On the model's own device, the model itself is converted, and exactly restored; on another, a
    copy. The blocks of a streamed model, which stays on its device, are converted as they are read.

    fp64 is the reference of parity: PyTorch's own fp32 error on a real model is as large as the
    parity tolerance.
    """
    source = source_of(model)
    if device is not None and source is None:
        model = on(model, device)
    undo: list[Callable[[], None]] = []
    try:
        if source is not None and dtype is not None:
            undo.append(partial(stream, model, source))
            stream(model, Changed(source, lambda block, _: _convert(block, dtype)))
        undo.extend(_change(parameter, dtype) for parameter in model.parameters())
        # As transformers loads a model of a narrower dtype: rotary frequencies stay fp32.
        undo.extend(
            _change(buffer, dtype and torch.promote_types(buffer.dtype, dtype))
            for buffer in model.buffers()
        )
        yield model
    finally:
        for restore in undo:
            restore()


def _convert(block: nn.Module, dtype: torch.dtype) -> None:
    block.to(dtype)


def _change(tensor: Tensor, dtype: torch.dtype | None) -> Callable[[], None]:
    """Convert a tensor in place; returns a callback that restores it."""
    before = tensor.data
    if dtype is not None and before.is_floating_point():
        tensor.data = before.to(dtype)
    own = before.dtype
    # A tensor that converts back exactly needs no copy of the original.
    exact = torch.promote_types(own, tensor.dtype) == tensor.dtype
    original = None if exact else before

    def undo() -> None:
        tensor.data = tensor.data.to(own) if original is None else original

    return undo


def rounding_error(
    model: PreTrainedModel, dtype: torch.dtype, logits_of: Callable[[PreTrainedModel], Logits]
) -> float:
    """PyTorch's own error in `dtype`: the largest absolute difference of a logit from fp64."""
    logits = []
    for precision in (dtype, torch.float64):
        with computing_in(model, precision) as converted:
            logits.append(logits_of(converted))
    return float(np.abs(logits[0] - logits[1]).max())


def decoder_rounding_error(
    model: PreTrainedModel, tokens: Tokens, dtype: torch.dtype = torch.float32
) -> float:
    """`rounding_error` of a causal language model's logits after every token.

    Large for models with massive activations: SmolLM2's residual stream reaches 25,000 at the first
    token and falls back to 50, which loses three digits in fp32.
    """

    def logits_of(converted: PreTrainedModel) -> Logits:
        if source_of(converted) is not None:
            family = family_of(converted.config.model_type, None)
            return np.concatenate(
                list(StreamedLm(converted, family).logits_of(tokens, len(tokens)))
            )
        with TorchRunner(converted, threads=None) as runner:
            return runner.prefill(tokens, all_positions=True)

    return rounding_error(model, dtype, logits_of)
