"""Statistics of a site: second moments of its consumer's input on calibration tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from numprune_export.core.errors import NumericalError
from numprune_export.core.halving import in_parts, irreversible
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.batch import Batch
from numprune_export.models.block_runner import Look, Progress, shared
from numprune_export.models.family import Family
from numprune_export.models.residency import resident
from numprune_export.models.site import Site
from numprune_export.numerics.gram import (
    add_upper_gram,
    mirrored,
    rounding,
    scatter,
    shift_of,
    shifted,
)
from numprune_export.numerics.ranks import of_first, summed, summed_number

ACTIVATION_ROUNDING = 8 * torch.finfo(torch.float32).eps
"""Standard deviation, relative to the mean, of a constant activation after rounding."""


@dataclass(frozen=True)
class Statistics:
    """Sums over the real calibration tokens x (n,) at the input of a site's consumer."""

    shifted_gram: Float[Tensor, "n n"]
    """Σ (x − s)(x − s)ᵀ, accumulated in fp32."""
    shifted_total: Float[Tensor, " n"]
    """Σ (x − s), fp64, from fp32 sums per batch."""
    tokens: int
    unit_width: int = 1
    """Adjacent inputs per unit."""
    unit_gradients: Float[Tensor, "rows units"] | None = None
    """Gradients of the loss with respect to unit masks; None unless the score reads them."""
    output_fisher: Float[Tensor, "out out"] | None = None
    """(1 / tokens)·Σ g gᵀ, fp64, over tokens, g the gradient of the summed loss with respect to the
    consumer's output; None unless the score reads it."""
    shift: Float[Tensor, " n"] | None = None
    """s, fp32, near the mean of x, so that the covariance is not a small difference of large sums;
    None: 0."""

    @classmethod
    def of_nothing(cls, site: Site) -> Statistics:
        """Sums over no tokens, for methods that read no moments."""
        width = site.inputs
        none = torch.zeros(1, 1, dtype=torch.float32).expand(width, width)
        return cls(none, none[0].double(), 0, site.consumer_width)

    def to(self, device: torch.device) -> Statistics:
        """The same on another device."""
        tensors: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)

    @property
    def mean(self) -> Float[Tensor, " n"]:
        """Mean per input, fp64."""
        mean = self.shifted_total / self.tokens
        return mean if self.shift is None else mean + self.shift

    @property
    def gram(self) -> Float[Tensor, "n n"]:
        """Σ x xᵀ, the paper's XᵀX: fp64, computed at each call, in memory of its own."""
        if self.shift is None or not self.tokens:
            return self.shifted_gram.to(torch.float64, copy=True)
        mean = self.mean
        centred = scatter(self.shifted_gram, self.shifted_total, self.tokens)
        return centred.addr_(mean, mean, alpha=self.tokens)

    @property
    def covariance(self) -> Float[Tensor, "n n"]:
        """Covariance per token, fp64, computed at each call, in memory of its own; 0 in rows and
        columns of inputs that do not `vary`."""
        covariance = scatter(self.shifted_gram, self.shifted_total, self.tokens).div_(self.tokens)
        constant = ~self.vary
        covariance[constant] = 0
        covariance[:, constant] = 0
        return covariance

    @property
    def vary(self) -> Bool[Tensor, " n"]:
        """Whether an input's variance exceeds the rounding of these sums and of fp32
        activations."""
        second = self.shifted_gram.diagonal().double() / self.tokens
        own = (ACTIVATION_ROUNDING * self.mean).square()
        return self.variance > (self.rounding * second).maximum(own)

    @property
    def squares(self) -> Float[Tensor, " n"]:
        """Σ x² per input, fp64: the diagonal of `gram`."""
        if self.shift is None:
            return self.shifted_gram.diagonal().double()
        return self.tokens * (self.variance + self.mean.square())

    @property
    def variance(self) -> Float[Tensor, " n"]:
        """Population variance per input, fp64, never negative."""
        second = self.shifted_gram.diagonal().double() / self.tokens
        return (second - (self.shifted_total / self.tokens).square()).clamp_min(0)

    @property
    def rounding(self) -> float:
        """Error of entry ij of `shifted_gram`, relative to √(entry ii · entry jj)."""
        return rounding(self.tokens, self.shifted_gram.dtype)


class StatisticsAccumulator:
    """Accumulates statistics over batches; the shift is the mean of the first batch."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._gram = torch.zeros(width, width, dtype=torch.float32, device=device)
        self._total = torch.zeros(width, dtype=torch.float64, device=device)
        self._shift: Tensor | None = None
        self._tokens = 0

    def add(self, rows: Float[Tensor, "tokens n"]) -> None:
        if not len(rows):
            return
        for _ in in_parts(len(rows), lambda part: self._add(rows[part]), "tokens"):
            pass

    def _add(self, rows: Float[Tensor, "tokens n"]) -> None:
        if self._shift is None:
            self._shift = of_first(shift_of(rows))
        rows = shifted(rows, self._shift)
        total = rows.sum(0, dtype=torch.float32)
        with irreversible():
            add_upper_gram(self._gram, rows)
            self._total += total
            self._tokens += rows.shape[0]

    def result(self, site: Site) -> Statistics:
        """The statistics of all tokens so far, of all processes that share the texts.

        Raises:
            NumericalError: an activation was NaN or infinite.
        """
        gram, tokens = mirrored(summed(self._gram)), int(summed_number(self._tokens))
        if not bool(torch.isfinite(gram).all()):
            raise NumericalError(
                f"activations at `{site.name}` are not finite",
                hint="check the checkpoint, or calibrate in `dtype: float32`",
            )
        total = summed(self._total)
        return Statistics(gram, total, tokens, site.consumer_width, shift=self._shift)


def collect(
    model: nn.Module,
    family: Family,
    windows: Windows,
    batch: int,
    tick: Progress,
    token_stride: int = 1,
    *,
    known: Callable[[int], bool] = lambda block: False,
) -> Iterator[dict[str, Statistics]]:
    """Collect statistics block by block in one pass of the dense model.

    Only one block's statistics are in memory at a time unless the caller keeps them.

    Args:
        model: The dense model.
        family: Its declaration.
        windows: Calibration windows.
        batch: Sequences per batch.
        tick: Called with the number of sequences that passed a block; the total is
            `blocks × sequences`.
        token_stride: Every n-th real token is accumulated.
        known: Whether a block's statistics are known already; the texts only pass through it.

    Yields:
        Statistics by site name, for each block in turn; empty for a known one.

    Raises:
        NumericalError: an activation was NaN or infinite.
    """
    sites = family.sites(model)
    batches = block_runner.prepare_batches(model, family, shared(windows, batch), batch)
    for index in range(len(family.block_list(model))):
        here = [site for site in sites if site.block == index]
        statistics: dict[str, Statistics] = {}
        with resident(model, family, index) as block:
            if here and not known(index):
                statistics = _gather(block, here, batches, tick, token_stride)
            else:  # known, or both of its sublayers have lost all their units
                block_runner.advance(block, index, batches, tick)
        del block  # a streamed one is freed before its statistics are worked on
        yield statistics


def _gather(
    block: nn.Module, sites: list[Site], batches: list[Batch], tick: Progress, token_stride: int
) -> dict[str, Statistics]:
    accumulators = {
        site.name: StatisticsAccumulator(site.inputs, batches[0].device) for site in sites
    }

    def add(site: Site) -> Look:
        return lambda rows: accumulators[site.name].add(rows.every(token_stride))

    layers = {site.consumer: add(site) for site in sites}
    block_runner.capture_inputs(block, sites[0].block, batches, layers, tick, run_on=True)
    return {site.name: accumulators[site.name].result(site) for site in sites}
