"""The removal order of a site's units, and the error of each number of removed units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class RemovalOrder:
    """A nested order: the first k removed units are among the first k + 1."""

    order: Int64[Tensor, " units"]
    """All units, the first to be removed first."""
    error: Float[Tensor, " units_and_one"]
    """fp64; error[k] is the error after removing the first k units, in the same unit of measure for
    all sites of a model; error[0] is 0."""

    def __post_init__(self) -> None:
        units = len(self.order)
        assert sorted(self.order.tolist()) == list(range(units)), self.order
        assert self.error.shape == (units + 1,), self.error.shape

    def scores(self) -> Float[Tensor, " units"]:
        """A score per unit, for methods that take no order: the error that its removal adds, made
        non-decreasing along the order."""
        scores = torch.empty_like(self.error[1:])
        scores[self.order] = self.error.diff().cummax(0).values
        return scores

    def kept(self, count: int) -> tuple[int, ...]:
        """The last `count` units of the order, sorted."""
        return tuple(sorted(self.order[len(self.order) - count :].tolist()))


def additive(scores: Float[Tensor, " units"]) -> RemovalOrder:
    """Units by rising score, with errors that add up. Negative scores are shifted so that the
    lowest is 0."""
    rising = torch.sort(scores.double(), stable=True)
    costs = rising.values - rising.values[:1].clamp_max(0)
    return RemovalOrder(rising.indices, torch.cat([costs.new_zeros(1), costs.cumsum(0)]))
