"""Indices of the rows and columns that belong to units."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor


def columns_of_units(
    units: Sequence[int], width: int, device: torch.device | None = None
) -> Int64[Tensor, " k"]:
    """Indices of the rows or columns of these units, `width` per unit.

    They are computed on the CPU and copied to `device`, if one is given.

    >>> columns_of_units((0, 2), 3).tolist()
    [0, 1, 2, 6, 7, 8]
    """
    first = torch.tensor(units, dtype=torch.int64)[:, None] * width
    columns = (first + torch.arange(width)).reshape(-1)
    return columns if device is None else columns.to(device)


def complement(size: int, kept: Int64[Tensor, " k"]) -> Int64[Tensor, " p"]:
    """Sorted indices below `size` that are not in `kept`.

    >>> complement(5, torch.tensor([0, 3])).tolist()
    [1, 2, 4]
    """
    stays = torch.zeros(size, dtype=torch.bool, device=kept.device)
    stays[kept] = True
    return (~stays).nonzero()[:, 0]
