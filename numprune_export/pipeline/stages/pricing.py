"""What `keep` is a fraction of, where error curves share it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numprune_export.models.site import Site
from numprune_export.pruning.allocate import cost as macs
from numprune_export.pruning.allocate.error_curves import Curves, Price


def price_of(settings: Curves, config: Any, length: float) -> Price:
    """The cost of a site's kept units, with what they share.

    Args:
        config: The model's; its hidden size and whether attention is causal count.
        length: Tokens of a text, unless the settings say.
    """
    if settings.cost in ("parameters", "bytes"):
        return Site.cost
    hidden, causal = int(config.hidden_size), macs.is_causal(config)

    def price(site: Site, kept: Sequence[int]) -> float:
        return macs.site_macs(site, kept, hidden, settings.length or length, causal=causal)

    return price
