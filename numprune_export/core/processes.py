"""How `torchrun` has started this process, by its environment variables. Does not import torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from numprune_export.core.errors import InputError

_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """The number of this process, and of all processes of the run."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Its number on its machine, which is that of its GPU."""

    @property
    def first(self) -> bool:
        """Whether this process owns the run folder."""
        return self.rank == 0


def started() -> Ranks:
    """This process among those that `torchrun` has started; alone if it has not.

    Raises:
        InputError: the variables are incomplete or wrong.
    """
    world = _number("WORLD_SIZE", 1, least=1)
    if world == 1:
        return Ranks()
    missing = [name for name in ("RANK", *_ADDRESS) if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"the environment has `WORLD_SIZE={world}`, but no `{missing[0]}`",
            hint="start the processes with `torchrun`, or unset `WORLD_SIZE`",
        )
    rank = _number("RANK", 0)
    if rank >= world:
        raise InputError(
            f"the environment has `RANK={rank}`, which is not below `WORLD_SIZE={world}`",
            hint="start the processes with `torchrun`",
        )
    return Ranks(rank, world, _number("LOCAL_RANK", 0))


def _number(name: str, default: int, least: int = 0) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise InputError(
            f"the environment has `{name}={text}`, which is not a number from {least}",
            hint=f"start the processes with `torchrun`, or unset `{name}`",
        )
    return int(text)
