"""Prunable sites of a model, their units, and the layers that share a prunable width.

site   linear layers of a block that share a prunable width: producers -> (units) -> consumer
unit   the smallest removable part: an MLP channel, a query head, or a KV head with all of its query
       heads
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["attention", "mlp"]


@dataclass(frozen=True)
class Producer:
    """A linear layer that loses `width` output rows per removed unit."""

    path: str
    """Module path inside the block, for example `self_attn.q_proj`."""
    width: int
    shared: bool = False
    """Whether the rows belong to a group of units and are removed with its last unit: the key and
    value of query heads."""


@dataclass(frozen=True)
class Site:
    """Linear layers of one block that share a prunable width.

    Unit u owns output rows [u*width, (u+1)*width) of each producer and input columns
    [u*consumer_width, (u+1)*consumer_width) of the consumer. Of a shared producer,
    group g of units owns rows [g*width, (g+1)*width).
    """

    block: int
    kind: Kind
    units: int
    producers: tuple[Producer, ...]
    consumer: str
    consumer_width: int
    unit_cost: int
    """Parameters of one unit, biases included, without shared parameters."""
    may_be_empty: bool = False
    """Whether all units may be removed: the residual and the consumer's bias remain."""
    groups: tuple[int, ...] = ()
    """Sizes of the groups of neighbouring units that share producers; empty: none are shared."""
    shared_cost: int = 0
    """Parameters that are removed with the last unit of a group."""

    @property
    def name(self) -> str:
        return f"layers.{self.block}.{self.kind}"

    @property
    def inputs(self) -> int:
        """Input columns of the consumer."""
        return self.units * self.consumer_width

    @property
    def parameters(self) -> int:
        """Parameters of all units, shared parameters included."""
        return self.cost(range(self.units))

    def members(self, kept: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Groups that keep a unit, with the kept units of each, sorted by decreasing size.

        Groups of equal size are adjacent in the pruned model, so that a runtime that supports only
        equal groups needs one attention per size.

        >>> query = Producer("q", 4)
        >>> site = Site(0, "attention", 6, (query,), "o", 4, 9, groups=(2, 2, 2))
        >>> site.members((1, 4, 5))
        [(2, [4, 5]), (0, [1])]
        """
        start, members = 0, []
        for group, size in enumerate(self.groups):
            inside = [unit for unit in kept if start <= unit < start + size]
            if inside:
                members.append((group, inside))
            start += size
        return sorted(members, key=lambda member: -len(member[1]))

    def layout(self, kept: Sequence[int]) -> tuple[int, ...]:
        """The kept units in the order of the pruned model."""
        if not self.groups:
            return tuple(kept)
        return tuple(unit for _, units in self.members(kept) for unit in units)

    def cost(self, kept: Sequence[int]) -> int:
        """Parameters of these units, shared parameters included."""
        return len(kept) * self.unit_cost + len(self.members(kept)) * self.shared_cost
