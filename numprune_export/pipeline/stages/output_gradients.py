"""The Fisher information of every consumer's output, whatever the model's loss is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor, nn

from numprune_export.core.progress import Observer
from numprune_export.data.corpus import Windows
from numprune_export.models.block_runner import Tick
from numprune_export.models.family import Family


class Learn(Protocol):
    """As `fisher.output_fisher`, its loss chosen."""

    def __call__(
        self, model: nn.Module, family: Family, windows: Windows, *, tick: Tick
    ) -> Iterator[dict[str, Tensor]]: ...


def by_site(
    learn: Learn, model: nn.Module, family: Family, windows: Windows, observer: Observer
) -> Mapping[str, Tensor]:
    """F of all sites by name, the observer told of texts taken through a block, forth and back.

    Raises:
        NumericalError: a loss or a gradient is not finite.
    """
    observer.expect(2 * len(family.block_list(model)) * len(windows.tokens))
    found = learn(model, family, windows, tick=observer.advance)
    return {name: one for block in found for name, one in block.items()}
