"""The same weights, computed with in another precision or on another device, and what that costs."""

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
    """The model in another dtype or on another device for the time of a `with`; exactly undone.

    fp64 is the reference of parity: PyTorch's own fp32 error on a real model is as large as what an
    exported model is allowed.
    """
    undo: list[Callable[[], None]] = []
    try:
        undo.extend(_change(one, dtype, device) for one in model.parameters())
        # Rotary frequencies stay in fp32 in a narrower model, as transformers loads it.
        undo.extend(
            _change(one, dtype and torch.promote_types(one.dtype, dtype), device)
            for one in model.buffers()
        )
        yield model
    finally:
        for each in undo:
            each()


def _change(tensor: Tensor, dtype: torch.dtype | None, device: str | None) -> Callable[[], None]:
    """Convert in place; returns what undoes it."""
    before = tensor.data
    tensor.data = before.to(device=device, dtype=dtype if before.is_floating_point() else None)
    own = before.dtype
    exact = torch.promote_types(own, tensor.dtype) == tensor.dtype
    # What converts back exactly need not be held twice.
    original = None if exact and before.device == tensor.device else before

    def undo() -> None:
        tensor.data = tensor.data.to(own) if original is None else original

    return undo


def rounding_error(
    model: PreTrainedModel, dtype: torch.dtype, logits_of: Callable[[PreTrainedModel], Logits]
) -> float:
    """PyTorch's own error in `dtype`: the largest difference of a logit from fp64."""
    found = []
    for one in (dtype, torch.float64):
        with computing_in(model, one) as converted:
            found.append(logits_of(converted))
    return float(np.abs(found[0] - found[1]).max())


def decoder_rounding_error(
    model: PreTrainedModel, tokens: Tokens, dtype: torch.dtype = torch.float32
) -> float:
    """`rounding_error` of a causal language model's logits after every token.

    Not zero by far where a model has massive activations: SmolLM2's residual stream reaches 25,000
    at the first token and comes back to 50, which costs fp32 three digits.
    """

    def logits_of(converted: PreTrainedModel) -> Logits:
        with TorchRunner(converted, threads=None) as runner:
            return runner.prefill(tokens, all_positions=True)

    return rounding_error(model, dtype, logits_of)


def placed(model: PreTrainedModel, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A copy whose parameters are on `device` in `dtype`; tensors go over one by one.

    Buffers keep their precision: the rotary frequencies are fp32 in a model of any dtype. What was
    tied stays tied. No second copy is made in host memory, unless `device` is the host.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        value = parameter.detach().to(device, dtype, copy=True)
        memo[id(parameter)] = nn.Parameter(value, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = _moved(buffer, device)
    for module in model.modules():
        # Plain tensor attributes, such as the frequencies that a rotary embedding started from.
        for value in vars(module).values():
            if isinstance(value, Tensor):
                memo[id(value)] = _moved(value, device)
    twin: PreTrainedModel = copy.deepcopy(model, memo=memo)
    return twin


def _moved(tensor: Tensor, device: str) -> Tensor:
    return tensor.detach().to(device, copy=True)
