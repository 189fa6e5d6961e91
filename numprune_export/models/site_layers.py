"""The layers of one site, in one block of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from numprune_export.models.site import Site
from numprune_export.numerics.indexing import columns_of_units

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor


@dataclass(frozen=True)
class SiteLayers:
    """The linear layers of a site; looked up on each access, since pruning replaces them."""

    block: nn.Module
    site: Site
    """The site before pruning; its numbers do not follow later changes of the block."""

    @property
    def producers(self) -> list[nn.Linear]:
        """In the order of `site.producers`."""
        return [self._linear(producer.path) for producer in self.site.producers]

    @property
    def consumer(self) -> nn.Linear:
        return self._linear(self.site.consumer)

    @property
    def width(self) -> int:
        """Current number of input columns of the consumer."""
        return self.consumer.in_features

    def columns(self, kept: Sequence[int]) -> Int64[Tensor, " k"]:
        """The consumer's input columns of these units, in the order of the pruned model, on its
        device."""
        device = self.consumer.weight.device
        return columns_of_units(self.site.layout(kept), self.site.consumer_width, device)

    def _linear(self, path: str) -> nn.Linear:
        layer = self.block.get_submodule(path)
        assert isinstance(layer, nn.Linear), path
        return layer
