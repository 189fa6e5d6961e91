"""Matmul precision of fp32 tensors outside of measurements."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import (
    embedding,
    layer_norm,
    linear,
    scaled_dot_product_attention,
)
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
_layers: ContextVar[str | None] = ContextVar("_layers", default=None)
"""Precision of layers with fp32 weights off the CPU; None: plain fp32."""
_wide: ContextVar[bool] = ContextVar("_wide", default=False)
"""Whether the residual stream of a bfloat16 model is fp32."""


def multiplied() -> torch.dtype:
    """The dtype in which linear layers multiply fp32 tensors in the present context. An operand of
    many matmuls can be converted once."""
    return _multiplied.get()


@contextmanager
def matmul_precision(precision: Precision, device: torch.device = CPU) -> Iterator[None]:
    """Set the precision of a model on this device inside a `with`. Compute results that are
    compared bit for bit outside of it.

    Off the CPU it is that of linear layers alone: other matmuls of fp32, such as Gram matrices and
    residuals, do not round their operands. The residual stream of a bfloat16 model is fp32.
    """
    chosen = native(device) if precision == "auto" else precision
    rounded = "medium" if chosen == "bfloat16" else chosen
    layers = None if device.type == "cpu" or chosen == "bfloat16" else rounded
    with (
        _matmuls(rounded if device.type == "cpu" else "highest"),
        _set(_multiplied, multiplies(chosen)),
        _set(_layers, layers),
        _set(_wide, True),
        allocator.kept(),
        _Products(),
    ):
        yield


@contextmanager
def plain() -> Iterator[None]:
    """Compute as outside of any `matmul_precision`, inside a `with` that may be inside of one."""
    off = _set(_multiplied, torch.float32), _set(_layers, None), _set(_wide, False)
    with _matmuls("highest"), off[0], off[1], off[2], allocator.kept(), _Products():
        yield


@contextmanager
def _matmuls(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


T = TypeVar("T")


@contextmanager
def _set(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def multiplies(precision: Precision, device: torch.device = CPU) -> torch.dtype:
    """The dtype in which linear layers multiply fp32 tensors on a device at this precision."""
    chosen = native(device) if precision == "auto" else precision
    return torch.bfloat16 if chosen == "bfloat16" else torch.float32


def shortened(device: torch.device) -> bool:
    """Whether matmuls of fp32 tensors round them to bfloat16 on this device, in the present
    context."""
    if device.type != "cpu" or torch.get_float32_matmul_precision() != "medium":
        return False  # On CPUs `high` is fp32; elsewhere only layers round.
    return multiplied() == torch.bfloat16 or native() == "bfloat16"


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
        if func is linear:
            return self._linear(*args, **named)
        if func is embedding and _wide.get():
            return _in_fp32(embedding(*args, **named))
        if func is layer_norm and _wide.get():
            return _normed(*args, **named)
        if func is scaled_dot_product_attention:
            attention = _exact if args[0].device.type == "cpu" else _alike
            return attention(*args, **named)
        return func(*args, **named)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.dtype == torch.bfloat16 and _wide.get():
            return linear(self._input(x), weight, bias)
        if weight.dtype != torch.float32:
            return linear(x, weight, bias)
        if multiplied() != torch.bfloat16:
            layers = _layers.get()
            with nullcontext() if layers is None else _matmuls(layers):
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


def _in_fp32(hidden: Tensor) -> Tensor:
    """The start of the residual stream: what is added to it is fp32 then."""
    return hidden.float() if hidden.dtype == torch.bfloat16 else hidden


def _normed(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, *rest: Any,
    **named: Any,
) -> Tensor:  # fmt: skip
    """A layer norm of the residual stream, whose parameters may be bfloat16."""
    weight = None if weight is None else weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    return layer_norm(x, shape, weight, bias, *rest, **named)


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
