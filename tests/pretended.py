"""A pretended accelerator: tensors that claim the device `gpu:0` and hold their numbers in main memory.

Every operator runs on the CPU, so that a stage on the device gives real results, control flow included.
What a real device forbids or makes slow is seen: an operator whose tensors lie on two devices raises, and
moves between the devices, waits for a result, and live bytes are counted, each with the line of the
package that asked for it. With a `capacity`, what does not fit raises. Differences to CUDA: SDPA takes PyTorch's composite path, so results agree with
the CPU's up to rounding; and time means nothing here.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import numprune_export

NAME = "gpu"
DEVICE = torch.device("cpu")  # set once the backend is registered, below
PACKAGE = str(Path(numprune_export.__file__).parent)

aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default)
WAITS = (
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.bincount.default,
    aten.unique_dim.default,
    aten._unique2.default,
)
"""Operators whose result, or its shape, the processor waits for."""
INDEXING = (
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
)
"""Operators that take indices from main memory, and copy them."""


@dataclass
class Ledger:
    """What was asked of the device."""

    to_device: Counter[str] = field(default_factory=Counter)
    """Bytes copied from main memory, by the line that asked."""
    to_host: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    """Operators that the processor waited for, by the line that asked."""
    indices: Counter[str] = field(default_factory=Counter)
    """Indices in main memory of tensors on the device, by the line that asked."""
    operators: int = 0
    live: int = 0
    """Bytes of the device's tensors now."""
    peak: int = 0
    capacity: int | None = None
    """Bytes of the device; an operator whose result does not fit raises as on CUDA. None: no limit."""
    overflow: torch.OutOfMemoryError | None = None
    """Of a backward pass, which raises it at its end: PyTorch's threads lose Python's exceptions."""
    _holders: Counter[int] = field(default_factory=Counter)
    _bytes: dict[int, int] = field(default_factory=dict)

    def hold(self, tensor: Tensor, holder: Any) -> None:
        """Count a tensor's memory as the device's until the holder is freed."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if not self._holders[address]:
            self._require_room(storage.nbytes())
            self._bytes[address] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
        self._holders[address] += 1
        weakref.finalize(holder, self._free, address)

    def _require_room(self, size: int) -> None:
        if self.capacity is None or self.live + size <= self.capacity:
            return
        left = self.capacity - self.live
        error = torch.OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. GPU 0 has a total capacity"
            f" of {self.capacity / 2**20:.2f} MiB of which {left / 2**20:.2f} MiB is free. Including"
            " non-PyTorch memory, this process has it all in use."
        )
        if torch._C._current_graph_task_id() < 0:
            raise error
        self.overflow = error

    def _free(self, address: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self.live -= self._bytes.pop(address)

    def restart(self) -> None:
        """Forget what was counted; what is alive stays so."""
        for counts in (self.to_device, self.to_host, self.waits, self.indices):
            counts.clear()
        self.operators, self.peak, self.capacity = 0, self.live, None


_ledger = Ledger()


class Pretended(Tensor):
    """A tensor of the device; `held` is the CPU tensor with its numbers."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "Pretended":
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, layout=held.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.held = held
        _ledger.hold(held, made)
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        _ledger.waits[_line()] += 1
        return self.held.tolist()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: "Pretended") -> None:
        torch._C.TensorBase.data.__set__(self, value)
        self.held = value.held
        _ledger.hold(self.held, self)

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.held!r})"


class _Device(TorchDispatchMode):
    """Catches what makes a tensor on the device out of none of its own."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _is_ours(kwargs.get("device")) or next(_ours(args, kwargs), None) is not None:
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    ours, others = list(_ours(args, kwargs)), list(_others(args, kwargs))
    _ledger.operators += 1
    if func in WAITS or _masks(func, args):
        _ledger.waits[_line()] += 1
    target = _target(func, args, kwargs, ours)
    if func in MOVES:
        _count_move(func, args, ours, target)
    elif ours and others:
        _require_host_is_legal(func, args, ours, others)
    device = {"device": torch.device("cpu")} if kwargs.get("device") is not None else {}
    out = func(*tree_map(_unwrapped, args), **{**tree_map(_unwrapped, kwargs), **device})
    if not target:
        return args[0] if func is aten.copy_.default else out
    wrapped = tree_map(lambda x: Pretended(x) if type(x) is Tensor else x, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if ours else wrapped


def _target(func: Any, args: Any, kwargs: Any, ours: list[Pretended]) -> bool:
    """Whether what comes out lies on the device."""
    if func is aten.copy_.default:
        return isinstance(args[0], Pretended)
    if kwargs.get("device") is not None:
        return _is_ours(kwargs["device"])
    return bool(ours)


def _count_move(func: Any, args: Any, ours: list[Pretended], target: bool) -> None:
    source = args[1] if func is aten.copy_.default else args[0]
    if isinstance(source, Pretended) != target:
        moved = _ledger.to_device if target else _ledger.to_host
        moved[_line()] += source.numel() * source.element_size()
        if not target:
            _ledger.waits[_line()] += 1


def _require_host_is_legal(
    func: Any, args: Any, ours: list[Pretended], others: list[Tensor]
) -> None:
    indices = [index for index in (args[1] if func in INDEXING else ()) if index is not None]
    for tensor in others:
        if any(tensor is index for index in indices):
            _ledger.indices[_line()] += 1
        elif tensor.dim():
            shapes = [tuple(x.shape) for x in ours], [tuple(x.shape) for x in others]
            raise RuntimeError(
                f"expected all tensors on one device: {func} at {_line()} got {shapes[0]} on"
                f" {DEVICE} and {shapes[1]} on the CPU"
            )


def _masks(func: Any, args: Any) -> bool:
    """Whether it finds the places of a mask on the device."""
    if func not in INDEXING:
        return False
    return any(isinstance(i, Pretended) and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _ours(args: Any, kwargs: Any) -> Iterator[Pretended]:
    return (x for x in _tensors(args, kwargs) if isinstance(x, Pretended))


def _others(args: Any, kwargs: Any) -> Iterator[Tensor]:
    return (x for x in _tensors(args, kwargs) if not isinstance(x, Pretended))


def _tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    return (x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor))


def _unwrapped(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else x


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _line() -> str:
    """The innermost line of the package that asks for an operator, as `pruning/apply.py:120`; else of whoever called."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE) and not path.endswith("matmul_precision.py"):
            return f"{path[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the package"


def _register() -> torch.device:
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL", "PrivateUse1")

    def empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
        return Pretended(torch.empty(size, dtype=dtype or torch.get_default_dtype()))

    def empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
        return Pretended(
            torch.empty_strided(size, stride, dtype=dtype or torch.get_default_dtype())
        )

    def copy_from(source, target, non_blocking=False):
        _unwrapped(target).copy_(_unwrapped(source))
        return target

    library.impl("empty.memory_format", empty)
    library.impl("_copy_from", copy_from)
    library.impl("empty_strided", empty_strided)
    _register.library = library  # it ends with its last reference
    return torch.device(f"{NAME}:0")


DEVICE = _register()


@contextmanager
def _full_passes() -> Iterator[None]:
    """Backward passes raise if the device was full in them."""
    original = torch.autograd._engine_run_backward

    def run(*args: Any, **kwargs: Any) -> Any:
        _ledger.overflow = None
        result = original(*args, **kwargs)
        if _ledger.overflow is not None:
            raise _ledger.overflow
        return result

    with mock.patch.object(torch.autograd, "_engine_run_backward", run):
        yield


@contextmanager
def pretended() -> Iterator[Ledger]:
    """The device is there within a `with` statement; what was asked of it so far.

    Inference mode is `no_grad` there: its tensors have no version, which wrapped tensors need.
    """

    def enter(mode: torch.inference_mode) -> None:
        vars(mode)["without_gradients"] = torch.no_grad()
        mode.without_gradients.__enter__()

    def leave(mode: torch.inference_mode, *error: object) -> None:
        mode.without_gradients.__exit__(*error)

    _ledger.restart()
    patched = mock.patch.multiple(torch.inference_mode, __enter__=enter, __exit__=leave)
    with patched, _full_passes(), _Device():
        try:
            yield _ledger
        finally:
            _ledger.capacity = None
