"""The device on which a model is pruned and judged: `device` of a recipe."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from numprune_export.core.errors import DeviceError
from numprune_export.core.host_memory import available_bytes
from numprune_export.core.processes import started
from numprune_export.models.family import Family

FILLED = 0.85
"""Fraction of a device's free memory that `auto` fills at most."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Placement:
    """A device, and why it was chosen."""

    device: torch.device
    reason: str
    """For the log."""
    streamed: bool = False
    """Whether blocks are read from the checkpoint while they are in use."""
    taken: int = 0
    """Memory of the weights there, in bytes."""


@dataclass(frozen=True)
class Wanted:
    """Memory that pruning takes, in bytes."""

    dense: int
    """The dense model's weights."""
    whole: int
    """With the dense and the pruned model in memory."""
    streamed: int | None
    """With one block at a time; None: the checkpoint cannot be read so."""

    @classmethod
    def of(cls, model: nn.Module, family: Family, itemsize: int, *, can_stream: bool) -> Wanted:
        """What a model takes, from its shapes.

        Args:
            model: The model, which may be on `meta`.
            family: Its declaration.
            itemsize: Bytes per weight.
            can_stream: Whether its checkpoint can be read block by block.
        """
        sizes = [weight.numel() for weight in model.parameters()]
        dense = itemsize * sum(sizes)
        whole = 2 * dense + itemsize * max(sizes)
        if not can_stream:
            return cls(dense, whole, None)
        blocks = family.block_list(model)
        each = [sum(weight.numel() for weight in block.parameters()) for block in blocks]
        widest = max((site.inputs for site in family.sites(model)), default=1)
        # Two blocks, what is not in blocks, and fp64 squares of the widest Gram matrix.
        part = itemsize * (sum(sizes) - sum(each) + 2 * max(each)) + 4 * 8 * widest**2
        return cls(dense, whole, part)

    def streams(self, free: float, asked: bool | None) -> bool:
        """Whether the model is streamed on a device with this free memory, in bytes.

        Args:
            free: Free memory of the device.
            asked: `stream_weights` of the recipe; None: as the memory demands.
        """
        if asked is not None:
            return asked
        return self.streamed is not None and self.whole > FILLED * free


def place(name: str, wanted: Wanted, *, streamed: bool | None = None) -> Placement:
    """The device that a recipe names, and whether the model is streamed there.

    Args:
        name: As in `choose`.
        wanted: Memory that pruning takes.
        streamed: Whether the model is streamed; None: if it does not fit otherwise, and can be.

    Raises:
        DeviceError: PyTorch has no such CUDA device, or it has less memory than pruning takes.
    """
    least = wanted.whole if wanted.streamed is None or streamed is False else wanted.streamed
    chosen = choose(name, least)
    free = free_bytes(chosen.device)
    streamed = wanted.streams(free, streamed)
    taken = wanted.streamed if streamed and wanted.streamed is not None else wanted.dense
    if taken > free:
        raise DeviceError(
            f"pruning takes at least {taken / 1e9:.1f} GB, but `{chosen.device}` has"
            f" {free / 1e9:.1f} GB free",
            hint="give the model in safetensors or GGUF and `stream_weights: auto`, set `model.dtype: auto`,"
            " or use a machine with more memory",
        )
    reason = (
        f"{chosen.reason}; blocks are read while they are in use" if streamed else chosen.reason
    )
    return replace(chosen, reason=reason, streamed=streamed, taken=taken)


def free_bytes(device: torch.device) -> float:
    """Memory of a device that is not taken; infinite if unknown."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(available_bytes()) if device.type == "cpu" else float("inf")


def choose(name: str, wanted_bytes: int) -> Placement:
    """The device that a recipe names.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`. `auto` is the current CUDA device if it has room.
        wanted_bytes: Memory that pruning takes there.

    Raises:
        DeviceError: PyTorch has no such CUDA device.
    """
    if name == "cpu":
        return Placement(CPU, "as the recipe says")
    if started().world > 1 and torch.cuda.is_available():
        torch.cuda.set_device(started().local % torch.cuda.device_count())
    if name == "auto":
        return _automatic(wanted_bytes)
    device, devices = torch.device(name), torch.cuda.device_count()
    if not torch.cuda.is_available() or not devices:
        raise DeviceError(
            f"`device: {name}`, but PyTorch {torch.__version__} has no CUDA device",
            hint="install a PyTorch with CUDA and the driver, or set `device: cpu`",
        )
    if (device.index or 0) >= devices:
        raise DeviceError(
            f"`device: {name}`, but there are {devices} CUDA devices, counted from 0",
            hint=f"set `device` to `cuda:{devices - 1}` or below, or to `auto`",
        )
    index = torch.cuda.current_device() if device.index is None else device.index
    return Placement(torch.device("cuda", index), "as the recipe says")


def _automatic(wanted_bytes: int) -> Placement:
    if not torch.cuda.is_available():
        return Placement(CPU, "PyTorch has no CUDA device")
    device = torch.device("cuda", torch.cuda.current_device())
    free, _ = torch.cuda.mem_get_info(device)
    sizes = f"{wanted_bytes / 1e9:.1f} of {free / 1e9:.1f} GB free on the GPU"
    if wanted_bytes > FILLED * free:
        return Placement(CPU, f"pruning takes {sizes}")
    return Placement(device, f"pruning takes {sizes}")


def placed(model: Any, device: torch.device | str, dtype: torch.dtype) -> Any:
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
    return copy.deepcopy(model, memo=memo)


def on(model: Any, device: torch.device) -> Any:
    """The model itself if it is on this device, else a copy that is."""
    own = next(model.parameters())
    return model if own.device == device else placed(model, device, own.dtype)


def _moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.detach().to(device, copy=True)
