"""Models in another precision or on another device, and PyTorch's rounding error."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from numprune_export.export.runner import Logits, Tokens
from numprune_export.measure.reference.decoder import TorchRunner


@contextmanager
def computing_in(
    model: PreTrainedModel, dtype: torch.dtype | None = None, device: str | None = None
) -> Iterator[PreTrainedModel]:
    """The model in another dtype or on another device within a `with` statement; exactly restored.

    fp64 is the reference of parity: PyTorch's own fp32 error on a real model is as large as the
    parity tolerance.
    """
    undo: list[Callable[[], None]] = []
    try:
        undo.extend(_change(parameter, dtype, device) for parameter in model.parameters())
        # As transformers loads a model of a narrower dtype: rotary frequencies stay fp32.
        undo.extend(
            _change(buffer, dtype and torch.promote_types(buffer.dtype, dtype), device)
            for buffer in model.buffers()
        )
        yield model
    finally:
        for restore in undo:
            restore()


def _change(tensor: Tensor, dtype: torch.dtype | None, device: str | None) -> Callable[[], None]:
    """Convert a tensor in place; returns a callback that restores it."""
    before = tensor.data
    tensor.data = before.to(device=device, dtype=dtype if before.is_floating_point() else None)
    own = before.dtype
    exact = torch.promote_types(own, tensor.dtype) == tensor.dtype
    # A tensor that converts back exactly needs no copy of the original.
    original = None if exact and before.device == tensor.device else before

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
        with TorchRunner(converted, threads=None) as runner:
            return runner.prefill(tokens, all_positions=True)

    return rounding_error(model, dtype, logits_of)


def placed(model: PreTrainedModel, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A copy whose parameters are on `device` in `dtype`, copied tensor by tensor.

    Buffers keep their dtype: rotary frequencies are fp32 in a model of any dtype. Tied parameters
    stay tied. No second copy is made in host memory, unless `device` is the host.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        value = parameter.detach().to(device, dtype, copy=True)
        memo[id(parameter)] = nn.Parameter(value, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = _moved(buffer, device)
    for module in model.modules():
        # Plain tensor attributes, such as the initial frequencies of a rotary embedding.
        for value in vars(module).values():
            if isinstance(value, Tensor):
                memo[id(value)] = _moved(value, device)
    copied: PreTrainedModel = copy.deepcopy(model, memo=memo)
    return copied


def _moved(tensor: Tensor, device: str) -> Tensor:
    return tensor.detach().to(device, copy=True)
