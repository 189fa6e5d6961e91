"""A model on another device and in another precision, the original left as it is."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


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
