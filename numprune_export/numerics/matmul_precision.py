"""How exactly fp32 matrix products are computed where nothing is measured."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from numprune_export.core import allocator
from numprune_export.numerics.precision import Precision

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""That multiply bfloat16, as `torch.cpu.get_capabilities` names them."""
FEW = 256
"""Rows of a product up to which its converted weights are kept: a model that writes one token after the
other would convert all of its weights at every step."""


_multiplied: ContextVar[torch.dtype] = ContextVar("_multiplied", default=torch.float32)


def multiplied() -> torch.dtype:
    """What linear layers multiply fp32 numbers as, here: what goes into many products can be converted
    once."""
    return _multiplied.get()


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """For the time of a `with`; results that are compared bit for bit belong outside."""
    chosen = native() if precision == "auto" else precision
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if chosen == "bfloat16" else chosen)
    token = _multiplied.set(multiplies(chosen))
    try:
        with allocator.kept(), _Products(short=chosen == "bfloat16"):
            yield
    finally:
        _multiplied.reset(token)
        torch.set_float32_matmul_precision(before)


def multiplies(precision: Precision) -> torch.dtype:
    """What linear layers multiply fp32 numbers as, on this processor."""
    chosen = native() if precision == "auto" else precision
    return torch.bfloat16 if chosen == "bfloat16" else torch.float32


def shortened(device: torch.device) -> bool:
    """Whether products of fp32 matrices round them to bfloat16 here."""
    if torch.get_float32_matmul_precision() != "medium":
        return False  # On CPUs `high` is fp32; on GPUs it keeps ten bits.
    return multiplied() == torch.bfloat16 or device.type != "cpu" or native() == "bfloat16"


def native() -> Precision:
    """What this processor is fastest at: without instructions for it bfloat16 is emulated, slowly."""
    # Older releases of PyTorch cannot tell.
    known = getattr(torch.cpu, "get_capabilities", dict[str, bool])()
    return "bfloat16" if any(known.get(one) for one in INSTRUCTIONS) else "medium"


class _Products(TorchFunctionMode):
    """What PyTorch's own setting does not say: of linear layers and of attention.

    What layers put out is bfloat16 too, unless they add a bias, and so is what an MLP makes of it without
    other numbers. With an fp32 one in it any sum or product is fp32 again: residual stream, norms, rotated
    queries and keys.
    """

    def __init__(self, *, short: bool) -> None:
        super().__init__()
        self.short = short
        self.held: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}
        self.last: tuple[weakref.ref[Tensor], int, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if self.short and func is linear:
            return self._linear(*args, **named)
        if func is scaled_dot_product_attention and args[0].device.type == "cpu":
            return _exact(*args, **named)
        return func(*args, **named)

    def _linear(self, given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.dtype != torch.float32:
            return linear(given, weight, bias)
        few = given.numel() <= FEW * given.shape[-1]
        holds = few and not torch.is_grad_enabled() and not weight.is_inference()
        shorter = self._held(weight) if holds else weight.bfloat16()
        found = linear(self._input(given), shorter)
        return found if bias is None else found + bias

    def _input(self, given: Tensor) -> Tensor:
        """Queries, keys and values are of one input, and so are a gate and what it is for."""
        # With gradients the copy would belong to a graph; in inference changes are not counted.
        if given.dtype == torch.bfloat16 or torch.is_grad_enabled() or given.is_inference():
            return given.bfloat16()
        if self.last is None or self.last[0]() is not given or self.last[1] != given._version:
            self.last = weakref.ref(given), given._version, given.bfloat16()
        return self.last[2]

    def _held(self, weight: Tensor) -> Tensor:
        """A copy that is made once, and goes with the weight."""
        key = id(weight)
        known = self.held.get(key)
        if known is None or known[1] != weight._version:
            alive = weakref.ref(weight, lambda _: self.held.pop(key, None))
            known = alive, weight._version, weight.detach().bfloat16()
            self.held[key] = known
        return known[2]


def _exact(query: Tensor, key: Tensor, value: Tensor, *args: Any, **named: Any) -> Tensor:
    """Attention in fp32: on CPUs shorter numbers cost more there than they save, for every head's keys are
    repacked; four times as much for a single row of queries."""
    if torch.float32 in (query.dtype, key.dtype, value.dtype):
        query, key, value = query.float(), key.float(), value.float()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return scaled_dot_product_attention(query, key, value, *args, **named)
    finally:
        torch.set_float32_matmul_precision(before)
