"""Sampling of the next tokens of several texts from their logits."""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from numprune_export.calibration.generated_text_settings import GeneratedText

ROUNDING = 4 * torch.finfo(torch.float32).eps
"""Relative tolerance of a logit: a token exactly at the `min_p` threshold is kept."""


def sampled(
    logits: Float[Tensor, "rows words"],
    largest: Float[Tensor, "rows 1"],
    shares: Float[Tensor, " rows"],
    settings: GeneratedText,
) -> Int64[Tensor, "rows 1"]:
    """Sample one token per row, by inverting the distribution over tokens above the `min_p`
    threshold.

    Args:
        logits: Of the next tokens, in fp32. Rows that are not finite give any token.
        largest: Of each row.
        shares: Random fp64 numbers in [0, 1), on the same device.
        settings: `temperature` and `min_p`.
    """
    least = largest + (log(settings.min_p) if settings.min_p else -torch.inf)
    kept = logits >= least - ROUNDING * least.abs()
    if logits.device.type == "cpu":
        return _of_kept(logits, largest, kept, shares, settings.temperature)
    return _of_all(logits, largest, kept, shares, settings.temperature)


def _of_kept(
    logits: Float[Tensor, "rows words"],
    largest: Float[Tensor, "rows 1"],
    kept: Bool[Tensor, "rows words"],
    shares: Float[Tensor, " rows"],
    temperature: float,
) -> Int64[Tensor, "rows 1"]:
    """Only the kept tokens are computed: few are, and passes over the vocabulary take much of a
    step's time. Their number is known only once it is computed, so that a device would be waited
    for."""
    rows, words = torch.where(kept)
    chances = (logits[rows, words] - largest[rows, 0]).double().div(temperature).exp()
    # The kept tokens of all rows lie in one vector; each row samples from its own range of it.
    below, ends = chances.cumsum(0), rows.bincount(minlength=len(logits)).cumsum(0)
    stop = below[ends - 1]
    start = stop.roll(1).index_fill(0, ends.new_zeros(1), 0)
    # Stay below the end of the range despite rounding: the next row starts there.
    sought = (start + shares * (stop - start)).minimum(stop.nextafter(start))
    return words[torch.searchsorted(below, sought, right=True)][:, None]


def _of_all(
    logits: Float[Tensor, "rows words"],
    largest: Float[Tensor, "rows 1"],
    kept: Bool[Tensor, "rows words"],
    shares: Float[Tensor, " rows"],
    temperature: float,
) -> Int64[Tensor, "rows 1"]:
    """All tokens are computed, in shapes that are known beforehand: nothing is waited for."""
    chances = (logits - largest).double().div(temperature).exp().mul(kept)
    below = chances.cumsum(-1)
    total = below[:, -1:]
    sought = (shares[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    drawn = torch.searchsorted(below, sought, right=True)
    # Logits that are not numbers are reported later; until then their token has an embedding.
    return drawn.clamp(max=logits.shape[-1] - 1)
