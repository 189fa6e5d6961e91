"""What every method needs to know of a site: second moments of its consumer's input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.block_runner import Batch, Tick
from numprune_export.models.family import Family
from numprune_export.models.site import Site

STRIPES = 4
"""A Gram matrix is symmetric; it is accumulated in this many row stripes, upper part only."""


@dataclass(frozen=True)
class Statistics:
    """Sums over the real calibration tokens x (n,) at the input of a site's consumer."""

    gram: Float[Tensor, "n n"]
    """Σ x xᵀ: the paper's XᵀX, accumulated in fp32."""
    total: Float[Tensor, " n"]
    """Σ x, fp64 from fp32 sums of a batch."""
    tokens: int
    unit_width: int = 1
    """Inputs that belong to one unit, side by side."""
    unit_gradients: Float[Tensor, "rows units"] | None = None
    """Gradients of the loss with respect to unit masks, where a method asked for them."""
    output_fisher: Float[Tensor, "out out"] | None = None
    """(1 / tokens)·Σ g gᵀ, fp64, over tokens, g the gradient of the summed loss with respect to the
    consumer's output, where a method asked for it."""

    @classmethod
    def of_nothing(cls, site: Site) -> Statistics:
        """Sums over no tokens: where nothing reads moments, none are gathered."""
        width = site.inputs
        none = torch.zeros(1, 1, dtype=torch.float32).expand(width, width)
        return cls(none, none[0].double(), 0, site.consumer_width)

    @property
    def mean(self) -> Float[Tensor, " n"]:
        return self.total / self.tokens

    @property
    def variance(self) -> Float[Tensor, " n"]:
        """Population variance per input, fp64, never negative."""
        second = self.gram.diagonal().double() / self.tokens
        return (second - self.mean.square()).clamp_min(0)


class Gathering:
    """Statistics under way; the sums are additive over batches (and over ranks)."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._gram = torch.zeros(width, width, dtype=torch.float32, device=device)
        self._total = torch.zeros(width, dtype=torch.float64, device=device)
        self._tokens = 0

    def add(self, rows: Float[Tensor, "tokens n"]) -> None:
        rows = rows.float()
        add_upper_gram(self._gram, rows)
        self._total += rows.sum(0)
        self._tokens += rows.shape[0]

    def finish(self, site: Site) -> Statistics:
        """The sums so far.

        Raises:
            NumericalError: an activation was NaN or infinite.
        """
        gram = mirrored(self._gram)
        if not bool(torch.isfinite(gram).all()):
            raise NumericalError(
                f"activations at `{site.name}` are not finite",
                hint="check the checkpoint, or calibrate in `dtype: float32`",
            )
        return Statistics(gram, self._total, self._tokens, site.consumer_width)


def add_upper_gram(gram: Float[Tensor, "n n"], rows: Float[Tensor, "tokens n"]) -> None:
    """Add Σ x xᵀ on and above the diagonal, with five eighths of the multiplications of all of it."""
    step = -(-rows.shape[1] // STRIPES) or 1
    for start in range(0, rows.shape[1], step):
        stripe = rows[:, start : start + step]
        gram[start : start + step, start:].addmm_(stripe.T, rows[:, start:])


def mirrored(upper: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The symmetric matrix of which this is the upper triangle; what is below it is not read."""
    return upper.triu() + upper.triu(1).T


def collect(
    model: nn.Module, family: Family, windows: Windows, batch: int, tick: Tick, every: int = 1
) -> Iterator[dict[str, Statistics]]:
    """Statistics of each block in turn, by site name, from one pass of the dense model; of one token in
    so many.

    Only one block's statistics are alive at a time unless the caller keeps them. `tick` counts
    sequences through one block; there are `blocks × sequences` of them.
    """
    sites = family.sites(model)
    batches = block_runner.embed(model, family, windows, batch)
    for index, block in enumerate(family.block_list(model)):
        here = [site for site in sites if site.block == index]
        if here:
            yield _gather(block, here, batches, tick, every)
        else:  # both of its sublayers have lost all their units
            block_runner.advance(block, index, batches, tick)
            yield {}


def _gather(
    block: nn.Module, sites: list[Site], batches: list[Batch], tick: Tick, every: int
) -> dict[str, Statistics]:
    under_way = {site.name: Gathering(site.inputs, batches[0].hidden.device) for site in sites}

    def looking(site: Site) -> Callable[[Tensor], None]:
        return lambda rows: under_way[site.name].add(rows[::every])

    layers = {site.consumer: looking(site) for site in sites}
    block_runner.watch(block, sites[0].block, batches, layers, tick, run_on=True)
    return {site.name: under_way[site.name].finish(site) for site in sites}
