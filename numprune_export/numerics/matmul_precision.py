"""Matmul precision of fp32 tensors outside of measurements."""

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

CPU = torch.device("cpu")
INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""Processor instructions that multiply bfloat16, by their names in `torch.cpu.get_capabilities`."""
FEW = 256
"""Rows of a matmul up to which its converted weight is cached: token-by-token generation would
otherwise convert every weight at every step."""


_multiplied: ContextVar[torch.dtype] = ContextVar("_multiplied", default=torch.float32)


def multiplied() -> torch.dtype:
    """The dtype in which linear layers multiply fp32 tensors in the present context. An operand of
    many matmuls can be converted once."""
    return _multiplied.get()


@contextmanager
def matmul_precision(precision: Precision, device: torch.device = CPU) -> Iterator[None]:
    """Set the precision of a model on this device inside a `with`. Compute results that are
    compared bit for bit outside of it."""
    chosen = native(device) if precision == "auto" else precision
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if chosen == "bfloat16" else chosen)
    token = _multiplied.set(multiplies(chosen))
    try:
        with allocator.kept(), _Products():
            yield
    finally:
        _multiplied.reset(token)
        torch.set_float32_matmul_precision(before)


def multiplies(precision: Precision) -> torch.dtype:
    """The dtype in which linear layers multiply fp32 tensors on this processor at this
    precision."""
    chosen = native() if precision == "auto" else precision
    return torch.bfloat16 if chosen == "bfloat16" else torch.float32


def shortened(device: torch.device) -> bool:
    """Whether matmuls of fp32 tensors round them to bfloat16 on this device, in the present
    context."""
    if torch.get_float32_matmul_precision() != "medium":
        return False  # On CPUs `high` is fp32; on GPUs it keeps ten bits.
    return multiplied() == torch.bfloat16 or device.type != "cpu" or native() == "bfloat16"


def native(device: torch.device = CPU) -> Precision:
    """The fastest precision of a device; without instructions for it, bfloat16 is emulated
    slowly."""
    if device.type == "cuda":
        short = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if short else "high"
    if device.type != "cpu":
        return "highest"
    # Older releases of PyTorch have no such function.
    known = getattr(torch.cpu, "get_capabilities", dict[str, bool])()
    return "bfloat16" if any(known.get(name) for name in INSTRUCTIONS) else "medium"


class _Products(TorchFunctionMode):
    """The parts of a precision that PyTorch has no setting for: linear layers and attention.

    A linear layer without a bias returns bfloat16, and so do elementwise operations on its output.
    A sum or product with an fp32 tensor is fp32: residual stream, norms, rotated queries and keys.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}
        self.last: tuple[weakref.ref[Tensor], int, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        # The context's: of nested modes the inner one decides.
        if func is linear and multiplied() == torch.bfloat16:
            return self._linear(*args, **named)
        if func is scaled_dot_product_attention:
            attention = _exact if args[0].device.type == "cpu" else _alike
            return attention(*args, **named)
        return func(*args, **named)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.dtype != torch.float32:
            return linear(x, weight, bias)
        few = x.numel() <= FEW * x.shape[-1]
        holds = few and not torch.is_grad_enabled() and not weight.is_inference()
        shortened_weight = self._held(weight) if holds else weight.bfloat16()
        output = linear(self._input(x), shortened_weight)
        return output if bias is None else output + bias

    def _input(self, x: Tensor) -> Tensor:
        """The input in bfloat16, converted once for layers that share it: query, key and value;
        gate and up projection."""
        # With gradients the copy would be part of a graph; inference tensors have no version counter.
        if x.dtype == torch.bfloat16 or torch.is_grad_enabled() or x.is_inference():
            return x.bfloat16()
        if self.last is None or self.last[0]() is not x or self.last[1] != x._version:
            self.last = weakref.ref(x), x._version, x.bfloat16()
        return self.last[2]

    def _held(self, weight: Tensor) -> Tensor:
        """The weight in bfloat16, converted once and freed with the weight."""
        key = id(weight)
        known = self.held.get(key)
        if known is None or known[1] != weight._version:
            alive = weakref.ref(weight, lambda _: self.held.pop(key, None))
            known = alive, weight._version, weight.detach().bfloat16()
            self.held[key] = known
        return known[2]


def _alike(query: Tensor, key: Tensor, value: Tensor, *args: Any, **named: Any) -> Tensor:
    """Attention in the shortest dtype of its three inputs: rotated queries and keys are fp32 where
    values are bfloat16."""
    shortest = min((query, key, value), key=lambda tensor: tensor.dtype.itemsize).dtype
    query, key, value = (tensor.to(shortest) for tensor in (query, key, value))
    return scaled_dot_product_attention(query, key, value, *args, **named)


def _exact(query: Tensor, key: Tensor, value: Tensor, *args: Any, **named: Any) -> Tensor:
    """Attention in fp32: on CPUs bfloat16 attention is slower, because every head's keys are
    repacked; four times slower for a single row of queries."""
    if torch.float32 in (query.dtype, key.dtype, value.dtype):
        query, key, value = query.float(), key.float(), value.float()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return scaled_dot_product_attention(query, key, value, *args, **named)
    finally:
        torch.set_float32_matmul_precision(before)
