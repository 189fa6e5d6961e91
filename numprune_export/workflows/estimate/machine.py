"""The machine that an estimate is for: memory of host and device, and seconds per unit of work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from numprune_export.core.errors import InputError
from numprune_export.core.host_memory import available_bytes
from numprune_export.models.device import CPU, Wanted, choose
from numprune_export.numerics.held import MAIN_ROOM
from numprune_export.numerics.matmul_precision import multiplies
from numprune_export.recipe import Recipe
from numprune_export.workflows.estimate import known_machines
from numprune_export.workflows.estimate.card_speed import probe
from numprune_export.workflows.estimate.known_machines import CARDS, HOST, SERVER_CPU, server_rates
from numprune_export.workflows.estimate.work import Rates

RUNTIME = 1e9
"""Bytes of a process with its libraries on a machine that is not here."""


@dataclass(frozen=True)
class Machine:
    """A machine, measured or from the table."""

    name: str
    host_bytes: float | None
    """Host memory that a run may take; None: not known."""
    device_bytes: float | None
    """Memory of the GPU that a run may take; None: the model is on the CPU."""
    rates: Rates
    runtime: float
    """Bytes of the process before it reads a model."""
    short: int
    """Bytes of an operand of a linear layer's matmul."""
    measured: bool

    @property
    def free(self) -> float:
        """Memory where the model is, in bytes."""
        free = self.host_bytes if self.device_bytes is None else self.device_bytes
        return float("inf") if free is None else free

    def held(self, stays: float, waits: float) -> float:
        """Bytes in host memory, without the runtime; what does not fit of `waits` is in files.

        Args:
            stays: Bytes that stay in memory.
            waits: Bytes of activations of all texts.
        """
        if self.host_bytes is None:
            return stays + waits
        room = (1 - MAIN_ROOM) * self.host_bytes - self.runtime
        return stays + min(waits, max(0.0, room - stays))

    @property
    def says(self) -> str:
        """How its figures were made, for people."""
        if self.measured:
            return f"{self.name}, its speed measured here"
        return f"{self.name}, from a table of published figures, not measured"


def named(name: str, recipe: Recipe, itemsize: int) -> Machine:
    """A machine of the table.

    Raises:
        InputError: there is none with this name.
    """
    if name == SERVER_CPU:
        rates = server_rates(itemsize)
        return Machine(name, None, None, rates, RUNTIME, 4, measured=False)
    if name not in CARDS:
        raise InputError(
            f"no machine `{name}` is known",
            hint=f"give `cpu`, `cuda`, or one of {', '.join(known_machines.NAMES)}",
        )
    card = CARDS[name]
    rates = card.speed.rates(HOST, recipe.matmul_precision, itemsize)
    short = 2 if itemsize == 2 or recipe.matmul_precision in ("auto", "bfloat16") else 4
    return Machine(name, None, 1e9 * card.memory_gb, rates, RUNTIME, short, measured=False)


def here(
    name: str, recipe: Recipe, itemsize: int, wanted: Wanted, sampled: Callable[[], Rates]
) -> Machine:
    """This machine, on the device with this name: `auto`, `cpu`, `cuda` or `cuda:N`.

    Args:
        name: The device.
        recipe: The recipe that is estimated.
        itemsize: Bytes per weight.
        wanted: Memory that pruning takes, which `auto` asks about.
        sampled: Gives the rates of the CPU.

    Raises:
        DeviceError: PyTorch has no such device.
    """
    least = wanted.whole if wanted.streamed is None else wanted.streamed
    device, rates = choose(name, least).device, sampled()
    runtime, host = float(psutil.Process().memory_info().rss), float(available_bytes())
    if device == CPU:
        short = multiplies(recipe.matmul_precision).itemsize
        return Machine("cpu", host + runtime, None, rates, runtime, short, measured=True)
    card = probe(device).rates(rates, recipe.matmul_precision, itemsize)
    free = float(torch.cuda.mem_get_info(device)[0])
    short = 2 if itemsize == 2 or recipe.matmul_precision in ("auto", "bfloat16") else 4
    title = torch.cuda.get_device_name(device)
    return Machine(title, host + runtime, free, card, runtime, short, measured=True)
