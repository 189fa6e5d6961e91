"""In which order the units of a site go, and what each further one costs in quality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class RemovalOrder:
    """A nested order: what is removed with k units is a part of what is removed with k + 1."""

    order: Int64[Tensor, " units"]
    """All units, the first one to go first."""
    error: Float[Tensor, " units_and_one"]
    """fp64; error[k] is what the first k units cost when they are gone, in one unit of measure for all
    sites of a model; error[0] is 0."""

    def __post_init__(self) -> None:
        units = len(self.order)
        assert sorted(self.order.tolist()) == list(range(units)), self.order
        assert self.error.shape == (units + 1,), self.error.shape

    def scores(self) -> Float[Tensor, " units"]:
        """A score per unit, for methods that know no order: what its removal adds, never less than
        what an earlier one adds."""
        found = torch.empty_like(self.error[1:])
        found[self.order] = self.error.diff().cummax(0).values
        return found

    def kept(self, count: int) -> tuple[int, ...]:
        """The `count` units that go last, sorted."""
        return tuple(sorted(self.order[len(self.order) - count :].tolist()))


def additive(scores: Float[Tensor, " units"]) -> RemovalOrder:
    """Units by rising score, as if what they cost added up: all that a plain score can say. Where
    scores are negative, all are raised until the lowest is 0."""
    rising = torch.sort(scores.double(), stable=True)
    costs = rising.values - rising.values[:1].clamp_max(0)
    return RemovalOrder(rising.indices, torch.cat([costs.new_zeros(1), costs.cumsum(0)]))
