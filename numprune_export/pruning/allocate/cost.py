"""Cost of a unit: multiply-accumulates at a length, parameters, or bytes.

Embeddings, norms, softmax and the task head cost the same in every plan and are omitted, as in Kwon
et al. 2022 (arXiv:2204.09656, §3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numprune_export.models.site import Site
from numprune_export.pruning.allocate.error_curves import Curves, Price


@dataclass(frozen=True)
class ForwardPass:
    """One sequence through a model: the quantities that multiply-accumulates depend on besides the
    widths."""

    hidden: int
    """Size of the residual stream."""
    length: float
    """Tokens; may be a fractional mean."""
    causal: bool
    """A token attends only to itself and to earlier tokens."""


UnitCosts = Mapping[str, int]
"""By site name, the cost of one unit."""


def unit_macs(
    sites: Sequence[Site], hidden: int, length: float, *, causal: bool = False
) -> dict[str, int]:
    """Multiply-accumulates of one unit for one sequence, rounded, without parts shared by units.

    A head of width d_h at length s and hidden size d costs 3·s·d·d_h for query, key and value,
    2·s²·d_h for the scores and the weighted sum, and s·d_h·d for its output; a neuron costs 2·s·d,
    3·s·d with a gate. For a group of query heads on one key and value each projection counts once.

    Args:
        sites: All prunable sites.
        hidden: d.
        length: s, tokens of a sequence; the paper takes the mean of its evaluation set.
        causal: A token attends only to itself and earlier tokens: s·(s+1)/2 pairs instead of s².
    """
    return {site.name: _macs(site, hidden, length, causal=causal)[0] for site in sites}


def site_macs(site: Site, kept: Sequence[int], hidden: int, length: float, *, causal: bool) -> int:
    """Multiply-accumulates of these units of a site for one sequence, shared keys and values of
    query heads included. See `unit_macs`."""
    own, shared = _macs(site, hidden, length, causal=causal)
    return len(kept) * own + len(site.members(kept)) * shared


def _macs(site: Site, hidden: int, length: float, *, causal: bool) -> tuple[int, int]:
    """Multiply-accumulates of one unit, and of the part that a group of units shares."""
    pairs = length * (length + 1) / 2 if causal else length * length
    own = sum(producer.width for producer in site.producers if not producer.shared)
    shared = sum(producer.width for producer in site.producers if producer.shared)
    columns = site.consumer_width + own
    attended = 2 * pairs * site.consumer_width if site.kind == "attention" else 0
    return round(length * hidden * columns + attended), round(length * hidden * shared)


def unit_parameters(sites: Sequence[Site]) -> dict[str, int]:
    """Parameters removed with one unit, biases included, by site name."""
    return {site.name: site.unit_cost for site in sites}


def total(sites: Sequence[Site], costs: UnitCosts, kept: Mapping[str, Sequence[int]]) -> int:
    """Total cost of the kept units."""
    return sum(len(kept[site.name]) * costs[site.name] for site in sites)


def whole(sites: Sequence[Site], costs: UnitCosts) -> int:
    """Total cost of all units."""
    return sum(site.units * costs[site.name] for site in sites)


def price_of(settings: Curves, forward: ForwardPass) -> Price:
    """The cost function of a site's kept units, shared parts included; multiply-accumulates at the
    settings' length, if given."""
    if settings.cost in ("parameters", "bytes"):
        return Site.cost
    length = settings.length or forward.length

    def price(site: Site, kept: Sequence[int]) -> float:
        return site_macs(site, kept, forward.hidden, length, causal=forward.causal)

    return price
